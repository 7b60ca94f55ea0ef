"""Reading small files of others: a pipe or a device is refused before it is opened."""

import json
import stat
from pathlib import Path
from typing import Any

MOST_BYTES = 256 << 20


def check_plain(path: Path) -> int:
    """The size in bytes of a regular file, or of the one that a link leads to.

    Raises:
        OSError: It is missing, or a link leads in a circle.
        ValueError: It is a folder, a pipe or a device: to read it could take forever.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is not a regular file")
    return status.st_size


def read_text(path: Path, most_bytes: int = MOST_BYTES) -> str:
    """What a regular UTF-8 file holds.

    Raises:
        OSError, ValueError: It is missing, not a regular file, too large, or no UTF-8.
    """
    if check_plain(path) > most_bytes:
        raise ValueError(f"it is larger than {most_bytes} bytes")
    return path.read_bytes().decode("utf-8")


def table_of(text: str | bytes) -> dict[str, Any]:
    """A JSON text that is a table.

    Raises:
        ValueError: It is no JSON, no table, or nested more deeply than can be read.
    """
    try:
        found = json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(found, dict):
        raise ValueError("it is no table")
    return found


def read_table(path: Path, most_bytes: int = MOST_BYTES) -> dict[str, Any]:
    """A JSON file that is a table.

    Raises:
        OSError, ValueError: As of ``read_text`` and ``table_of``.
    """
    return table_of(read_text(path, most_bytes))
