"""Digests of large files, computed once."""

import functools
import hashlib
from pathlib import Path

from flex_assist.files import write_json_atomically
from flex_assist.locations import Locations
from flex_assist.models.untrusted import read_table


def sha256(path: Path, locations: Locations) -> str:
    """The file's SHA-256, remembered by path, size and time of change."""
    known = _known(locations).get(_key(path))
    if isinstance(known, str):
        return known
    digest = sha256_now(path)
    remember(path, digest, locations)
    return digest


def remember(path: Path, digest: str, locations: Locations) -> None:
    """Keep a digest that was just computed of the file's content."""
    write_json_atomically(_memory(locations), {**_known(locations), _key(path): digest})


@functools.cache
def _of_stamp(path: Path, stamp: str, locations: Locations) -> str:
    return sha256(path, locations)


def known_sha256(path: Path, locations: Locations) -> str:
    """As ``sha256``, but read only once a process, and again when the file has changed."""
    return _of_stamp(path, stamp(path), locations)


def sha256_now(path: Path) -> str:
    """The file's SHA-256, computed."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stamp(path: Path) -> str:
    """A short text that changes with the file's path, size or time of change."""
    status = path.stat()
    text = f"{path.resolve()}|{status.st_size}|{status.st_mtime_ns}"
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:12]


def _memory(locations: Locations) -> Path:
    return locations.cache / "hashes.json"


def _known(locations: Locations) -> dict[str, object]:
    try:
        return read_table(_memory(locations))
    except (OSError, ValueError):
        return {}


def _key(path: Path) -> str:
    return f"{path.resolve()}|{stamp(path)}"
