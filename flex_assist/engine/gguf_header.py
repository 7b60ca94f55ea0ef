"""A first look at a GGUF file, before native code is given it.

Source: the GGUF specification (github.com/ggml-org/ggml, docs/gguf.md): magic, version, number of
tensors, number of metadata entries, all little endian.
"""

import struct
from pathlib import Path

from flex_assist.errors import ModelError
from flex_assist.files import state

_HEADER = struct.Struct("<4sIQQ")
_VERSIONS = (2, 3)
# The least that a metadata entry (key length, type, one byte) and a tensor's record (name length,
# dimensions, type, offset) take: counts beyond what the file can hold mean damage.
_LEAST_ENTRY_BYTES = 13
_LEAST_TENSOR_BYTES = 24


# A file as it was when it was looked at: its real path, and ``files.state``.
FileState = tuple[Path, int, int, int]


def file_state(path: Path, what: str) -> FileState:
    """What tells a GGUF file from others, and from what it was before; checked as ``check_gguf``.

    Raises:
        ModelError: See there.
    """
    real = check_gguf(path, what)
    return real, *state(real)


def check_gguf(path: Path, what: str) -> Path:
    """The real path of ``path``, if it looks like a whole GGUF file.

    Args:
        what: ``"model"`` or ``"adapter"``, for the message.

    Raises:
        ModelError: It is missing, not a regular file, unreadable, or does not begin as one must.
    """
    try:
        real = path.resolve(strict=True)
        if not real.is_file():
            raise ModelError(f"the {what} {str(path)!r} is not a file; name a GGUF file")
        size_bytes = real.stat().st_size
        with real.open("rb") as file:
            head = file.read(_HEADER.size)
    except FileNotFoundError as error:
        raise ModelError(
            f"the {what} file {str(path)!r} does not exist; check the path, or fetch it again"
        ) from error
    except (OSError, RuntimeError) as error:
        raise ModelError(f"the {what} file {str(path)!r} cannot be read: {error}") from error
    fault = _fault(head, size_bytes)
    if fault:
        raise ModelError(
            f"the {what} file {str(path)!r} cannot be used: {fault}; replace it by a whole one"
        )
    return real


def _fault(head: bytes, size_bytes: int) -> str | None:
    if len(head) < _HEADER.size:
        return f"it has only {size_bytes} bytes"
    magic, version, tensors, entries = _HEADER.unpack(head)
    if magic != b"GGUF":
        return f"it is no GGUF file (it begins with {magic!r})"
    if version not in _VERSIONS:
        return f"its GGUF version {version} is not supported"
    if entries * _LEAST_ENTRY_BYTES + tensors * _LEAST_TENSOR_BYTES > size_bytes:
        return f"it is damaged ({entries} entries and {tensors} tensors in {size_bytes} bytes)"
    return None
