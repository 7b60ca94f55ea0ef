"""Files that appear whole or not at all."""

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flex_assist.locations import private_directory


def write_atomically(path: Path, fill: Callable[[Path], None]) -> None:
    """Let ``fill`` write a temporary neighbour of ``path``, then move it into place.

    The file is private (0600), flushed to disk before the move, and removed if ``fill`` fails.
    """
    private_directory(path.parent)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    os.close(handle)
    temporary = Path(name)
    try:
        fill(temporary)
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except OSError as error:
        # numpy tells of a full disk in words of its own, without a number.
        if error.errno == errno.ENOSPC or "free space" in str(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def private_file(path: Path) -> Path:
    """Make the file ``path``, if it is not there, for its owner alone, and give it back."""
    private_directory(path.parent)
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    return path


def write_bytes_atomically(path: Path, content: bytes) -> None:
    """Replace ``path`` by ``content``."""

    def fill(part: Path) -> None:
        part.write_bytes(content)

    write_atomically(path, fill)


def write_text_atomically(path: Path, text: str) -> None:
    """Replace ``path`` by ``text`` (UTF-8, line ends as given)."""
    write_bytes_atomically(path, text.encode())


def write_json_atomically(path: Path, value: Any) -> None:
    """Replace ``path`` by ``value`` as indented JSON."""
    write_text_atomically(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def state(path: Path) -> tuple[int, int, int]:
    """What changes when a file does: time of change, size, and which file it is.

    Tools that copy keep the time, and adapters of one rank have one size.

    Raises:
        OSError: It is not there.
    """
    status = path.stat()
    return status.st_mtime_ns, status.st_size, status.st_ino


def digest(path: Path) -> str:
    """SHA-256 of a file, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
