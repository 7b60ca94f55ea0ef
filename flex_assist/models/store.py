"""Where the files of base models are, and the form in which they are served."""

import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from flex_assist.errors import ConfigError
from flex_assist.files import write_json_atomically
from flex_assist.locations import Locations, private_directory
from flex_assist.models.catalogue import CatalogueEntry, catalogue, packaged_file


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseModel:
    """A base model on this machine.

    Attributes:
        path: The file as shipped or given.
        entry: Its catalogue entry, if it has one.
    """

    name: str
    path: Path
    entry: CatalogueEntry | None


def find(base: str) -> BaseModel:
    """The base model of a name or of a path to a GGUF file.

    Raises:
        ConfigError: Neither a known name nor a file.
        MissingExtraError: Known, but the package that ships it is not installed.
    """
    if base in catalogue():
        entry = catalogue()[base]
        return BaseModel(name=base, path=packaged_file(entry), entry=entry)
    if path := _existing(base):
        return BaseModel(name=name_of(base), path=path, entry=None)
    known = ", ".join(sorted(catalogue()))
    raise ConfigError(f"unknown base model {base!r}: give one of {known}, or a path to a GGUF file")


def name_of(base: str) -> str:
    """The name that adapters are recorded under: of a file, its name without the ending."""
    return base if base in catalogue() else Path(base).stem


def _existing(text: str) -> Path | None:
    try:
        path = Path(text).expanduser()
        return path.resolve() if path.is_file() else None
    # RuntimeError: "~somebody" who is not there. OSError: longer than a path can be.
    except (OSError, RuntimeError, ValueError):
        return None


def serving_path(base: str, locations: Locations) -> Path:
    """The file that is served for ``base``, made on first use.

    A 4- or 5-bit base is kept a second time as Q8_0: on a CPU it reads prompts faster, and Q8_0
    holds what the fewer bits do. Any other file is served as it is.
    """
    model = find(base)
    target = locations.models / f"{model.name[:80]}-{_stamp(model.path)}-q8_0.gguf"
    if target.is_file():
        return target
    # Imported here: front ends start without numpy, and mostly find the file made.
    from flex_assist.models.gguf_file import open_gguf
    from flex_assist.models.quantized import write_model

    if not _is_low_bit(open_gguf(model.path)):
        return model.path
    private_directory(locations.models)
    write_model(model.path, target)
    return target


@functools.cache
def _known(path: Path, stamp: str, locations: Locations) -> str:
    return sha256(path, locations)


def known_sha256(path: Path, locations: Locations) -> str:
    """As ``sha256``, but read only once a process, and again when the file has changed."""
    return _known(path, _stamp(path), locations)


def sha256(path: Path, locations: Locations) -> str:
    """The file's SHA-256, remembered by path, size and time of change."""
    memory = locations.cache / "hashes.json"
    key = f"{path.resolve()}|{_stamp(path)}"
    try:
        known = json.loads(memory.read_text())
    except (OSError, ValueError):
        known = {}
    if not isinstance(known, dict) or not isinstance(known.get(key), str):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        known = {**(known if isinstance(known, dict) else {}), key: digest}
        write_json_atomically(memory, known)
    return str(known[key])


def _stamp(path: Path) -> str:
    status = path.stat()
    text = f"{path.resolve()}|{status.st_size}|{status.st_mtime_ns}"
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:12]


def _is_low_bit(reader: object) -> bool:
    tensors = getattr(reader, "tensors", ())
    return any(
        tensor.tensor_type.name.startswith(("Q4", "Q5", "IQ", "Q2", "Q3")) for tensor in tensors
    )
