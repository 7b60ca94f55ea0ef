"""Reading GGUF files, which are untrusted: every fault becomes a ``ModelError``."""

import os
import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

from flex_assist.errors import ModelError

MAGIC = b"GGUF"
SMALLEST_BYTES = 24


def check_header(path: Path) -> None:
    """Refuse what cannot be a GGUF file before native code or a parser sees it.

    Raises:
        ModelError: Missing, not a regular file, too short, wrong magic or version.
    """
    if not path.is_file():
        raise ModelError(f"there is no model file {str(path)!r}")
    with path.open("rb") as file:
        head = file.read(8)
    if os.path.getsize(path) < SMALLEST_BYTES or head[:4] != MAGIC:
        raise ModelError(f"{str(path)!r} is not a GGUF file; give a file that ends in .gguf")
    version = struct.unpack("<I", head[4:8])[0]
    if version not in (2, 3):
        raise ModelError(f"{str(path)!r} has GGUF version {version}; versions 2 and 3 are read")


def open_gguf(path: Path) -> gguf.GGUFReader:
    """Map a GGUF file into memory.

    Raises:
        ModelError: The file is missing, damaged or cut short.
    """
    check_header(path)
    try:
        return gguf.GGUFReader(path)
    except (ValueError, KeyError, IndexError, OverflowError, UnicodeDecodeError, OSError) as error:
        raise ModelError(
            f"{str(path)!r} is damaged or cut short ({error}); fetch or copy it again"
        ) from error


def field(reader: gguf.GGUFReader, key: str, default: Any = None) -> Any:
    """The value of a metadata key, or ``default``."""
    found = reader.get_field(key)
    return default if found is None else found.contents()


def architecture(reader: gguf.GGUFReader) -> str:
    """The value of ``general.architecture``.

    Raises:
        ModelError: The file has none.
    """
    name = field(reader, gguf.Keys.General.ARCHITECTURE)
    if not isinstance(name, str):
        raise ModelError("the GGUF file names no architecture; it is not a model")
    return name


def tensor_values(tensor: gguf.ReaderTensor) -> NDArray[np.float32]:
    """The tensor dequantized to float32, rows first (out, in)."""
    shape = tuple(int(size) for size in reversed(tensor.shape.tolist()))
    values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
    return np.asarray(values, dtype=np.float32).reshape(shape)
