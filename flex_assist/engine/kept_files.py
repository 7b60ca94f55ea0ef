"""KV of the last documents on disk, so that the first completion after a restart is fast.

One private file (0600) for each document under each weights. llama.cpp trusts the bytes that it is
given, so a file is used only if it is the user's own, whole, and of exactly these weights and this
library; anything else is as good as none.
"""

import contextlib
import functools
import hashlib
import json
import logging
import os
import secrets
import shutil
import stat
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

from flex_assist.engine.kept import WeightsState
from flex_assist.engine.prefix import KeptPrefix
from flex_assist.locations import private_directory

_log = logging.getLogger(__name__)

SCHEMA: Final = 1
SUFFIX: Final = ".kv"
MOST_FILES: Final = 4
_NAME: Final = "name"
_DIGEST_BYTES: Final = 32
_LENGTH_BYTES: Final = 4
_MOST_HEADER_BYTES: Final = 4096
# Of each file of weights so many places are read, to tell files of one name and size apart.
_SAMPLES: Final = 64
_SAMPLE_BYTES: Final = 4096
_OLD_PART_S: Final = 60.0
# A symbolic link, or a pipe that would be waited for, is not ours. Windows knows neither.
_BINARY: Final = getattr(os, "O_BINARY", 0)
_READ: Final = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0) | _BINARY
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0) | _BINARY


class KeptFiles:
    """A folder of them. Once ``remove_all`` has taken it away, nothing more is written.

    Args:
        folder: None keeps nothing.
        limit_bytes: For all together; the oldest go.
        library: Which llama.cpp this is.
    """

    def __init__(self, folder: Path | None, limit_bytes: int, library: str) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._library = library
        self._name = b""
        if folder is not None and limit_bytes:
            with contextlib.suppress(OSError):
                self._name = _named(private_directory(folder))

    def read(self, weights: WeightsState, document: str) -> KeptPrefix | None:
        """What is kept of a document; None without it."""
        if self._folder is None or not document:
            return None
        with contextlib.suppress(OSError):
            key = _key(self._library, weights, document)
            data = _read(self._folder / f"{key}{SUFFIX}", self._limit_bytes)
            return _unpack(data, key) if data is not None else None
        return None

    def write(self, weights: WeightsState, document: str, kept: KeptPrefix) -> None:
        """Keep a document. What cannot be written costs a prefill later, and nothing else."""
        if self._folder is None or not document or kept.state.nbytes > self._limit_bytes:
            return
        try:
            if not self._name or (self._folder / _NAME).read_bytes() != self._name:
                return
            key = _key(self._library, weights, document)
            # Not with files.write_atomically, which would make the folder anew.
            part = self._folder / f".{key}.{os.getpid()}.part"
            try:
                with open(os.open(part, _NEW, 0o600), "wb") as file:
                    file.write(_pack(kept, key))
                part.replace(self._folder / f"{key}{SUFFIX}")
            finally:
                part.unlink(missing_ok=True)
            self._make_room()
        except OSError as error:
            _log.warning("the prompt of a document cannot be kept: %s", error)

    def _make_room(self) -> None:
        assert self._folder is not None
        for part in self._folder.glob(".*.part"):
            # Of a host that was killed while it wrote: that takes no minute.
            if time.time() - part.lstat().st_mtime > _OLD_PART_S:
                part.unlink(missing_ok=True)
        found = [(path, path.stat()) for path in self._folder.glob(f"*{SUFFIX}")]
        found.sort(key=lambda one: one[1].st_mtime_ns, reverse=True)
        size = 0
        for number, (path, status) in enumerate(found):
            size += status.st_size
            if number >= MOST_FILES or size > self._limit_bytes:
                path.unlink(missing_ok=True)


def remove_all(folder: Path) -> None:
    """Delete what is kept, and what a host that is just ending would still keep."""
    shutil.rmtree(folder, ignore_errors=True)


def _named(folder: Path) -> bytes:
    """The folder's name for itself: one that was made anew has another."""
    with (
        contextlib.suppress(FileExistsError),
        open(folder / _NAME, "xb", opener=functools.partial(os.open, mode=0o600)) as file,
    ):
        file.write(secrets.token_hex(16).encode())
    return (folder / _NAME).read_bytes()


def _key(library: str, weights: WeightsState, document: str) -> str:
    about = repr((SCHEMA, library, weights, document))
    digest = hashlib.sha256(about.encode("utf-8", "replace"))
    model, adapters = weights
    for path, *_ in (model, *adapters):
        digest.update(_sampled(path))
    return digest.hexdigest()[:40]


def _sampled(path: Path) -> bytes:
    """A digest of some places of a file, its end among them: reading all of it takes seconds."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        for number in range(_SAMPLES):
            file.seek(max(0, size - _SAMPLE_BYTES) * number // (_SAMPLES - 1))
            digest.update(file.read(_SAMPLE_BYTES))
    return digest.digest()


def _pack(kept: KeptPrefix, key: str) -> bytes:
    about = {"schema": SCHEMA, "key": key, "tokens": len(kept.tokens)}
    header = json.dumps(about).encode()
    tokens = np.array(kept.tokens, dtype="<i4").tobytes()
    length = len(header).to_bytes(_LENGTH_BYTES, "big")
    body = b"".join((length, header, tokens, kept.state.tobytes()))
    return body + _digest(body)


def _unpack(data: bytes, key: str) -> KeptPrefix | None:
    body, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    if len(data) <= _DIGEST_BYTES or _digest(body) != digest:
        return None
    length = int.from_bytes(body[:_LENGTH_BYTES], "big")
    if length > _MOST_HEADER_BYTES:
        return None
    try:
        about: Any = json.loads(body[_LENGTH_BYTES : _LENGTH_BYTES + length])
        count = about["tokens"] if about["key"] == key and about["schema"] == SCHEMA else 0
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    start = _LENGTH_BYTES + length
    if not isinstance(count, int) or not 0 < count <= (len(body) - start) // 4:
        return None
    tokens = np.frombuffer(body, dtype="<i4", count=count, offset=start)
    state = np.frombuffer(body, dtype=np.uint8, offset=start + 4 * count)
    return KeptPrefix(tokens=tuple(tokens.tolist()), state=state.copy())


def _digest(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=_DIGEST_BYTES).digest()


def _read(path: Path, most_bytes: int) -> bytes | None:
    """The bytes of a file that belongs to this user alone."""
    with open(os.open(path, _READ), "rb") as file:
        status = os.fstat(file.fileno())
        private = not hasattr(os, "getuid") or (
            status.st_uid == os.getuid() and not status.st_mode & 0o077
        )
        sound = private and stat.S_ISREG(status.st_mode) and status.st_size <= 2 * most_bytes
        return file.read() if sound else None
