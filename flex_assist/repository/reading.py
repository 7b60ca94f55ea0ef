"""Reading files of a tree that is not trusted: no links followed, no device opened, no hanging."""

import os
import stat
from pathlib import Path

from flex_assist.repository.documents import Objection

# Windows has neither flag; the check by ``lstat`` stands there alone.
_OPEN_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)
_KINDS = (
    (stat.S_ISLNK, "symlink"),
    (stat.S_ISDIR, "directory"),
    (stat.S_ISFIFO, "pipe"),
    (stat.S_ISSOCK, "socket"),
    (stat.S_ISCHR, "device"),
    (stat.S_ISBLK, "device"),
)


class TreeReader:
    """Reads files below a root by their relative paths.

    Directories on the way are checked once and remembered, so a reader is for one short pass.
    """

    def __init__(self, root: Path) -> None:
        self._root = os.fspath(root)
        self._directories: dict[str, Objection | None] = {"": None}

    def obstacle(self, path: str) -> Objection | None:
        """Why ``path`` is not a regular file inside the root, or None. Opens nothing."""
        if not _is_inside(path):
            return Objection(rule="outside")
        parent, _, _ = path.rpartition("/")
        return self._check_directory(parent) or self._check(path, directory=False)

    def read(self, path: str, limit_bytes: int) -> bytes | Objection:
        """The first ``limit_bytes`` of a regular file, or why it cannot be read."""
        found = self.obstacle(path)
        if found is not None:
            return found
        try:
            descriptor = os.open(self._absolute(path), _OPEN_FLAGS)
        except OSError as error:
            return _unreadable(error)
        try:
            # The file may have been exchanged since it was looked at.
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return Objection(rule="not-a-file")
            return _read_up_to(descriptor, limit_bytes)
        except OSError as error:
            return _unreadable(error)
        finally:
            os.close(descriptor)

    def has(self, path: str) -> bool:
        """Whether a file or a folder of this path is there, no link on the way."""
        found = self.obstacle(path)
        return found is None or found == Objection(rule="not-a-file", value="directory")

    def size(self, path: str) -> int:
        """Bytes of a file that passed ``obstacle``; 0 if it has gone since."""
        try:
            return os.lstat(self._absolute(path)).st_size
        except OSError:
            return 0

    def _absolute(self, path: str) -> str:
        return os.path.join(self._root, *path.split("/"))

    def _check_directory(self, path: str) -> Objection | None:
        if path not in self._directories:
            parent, _, _ = path.rpartition("/")
            self._directories[path] = self._check_directory(parent) or self._check(
                path, directory=True
            )
        return self._directories[path]

    def _check(self, path: str, *, directory: bool) -> Objection | None:
        try:
            mode = os.lstat(self._absolute(path)).st_mode
        except (FileNotFoundError, NotADirectoryError):
            return Objection(rule="missing")
        except OSError as error:
            return _unreadable(error)
        if stat.S_ISDIR(mode) if directory else stat.S_ISREG(mode):
            return None
        kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "unknown")
        if kind == "symlink":
            return Objection(rule="symlink")
        return Objection(rule="not-a-file", value=kind)


def _is_inside(path: str) -> bool:
    parts = path.split("/")
    if os.name == "nt" and ("\\" in path or ":" in path):
        return False
    return "\0" not in path and all(part not in ("", ".", "..") for part in parts)


def _unreadable(error: OSError) -> Objection:
    return Objection(rule="unreadable", value=error.strerror or type(error).__name__)


def _read_up_to(descriptor: int, limit_bytes: int) -> bytes:
    pieces = []
    left = limit_bytes
    while left > 0 and (piece := os.read(descriptor, left)):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)
