"""Reading safetensors files, which are untrusted, without torch: every fault is a ``ModelError``.

Source: the format's description (github.com/huggingface/safetensors): the length of a header, the
header as JSON, the values.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flex_assist.errors import ModelError

MOST_HEADER_BYTES = 16 << 20
MOST_TENSORS = 1 << 16
LENGTH_BYTES = 8
TYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2")}


def read_tensors(path: Path, most_bytes: int) -> dict[str, NDArray[np.float32]]:
    """All matrices of a file, as float32.

    Args:
        most_bytes: A larger file is refused.

    Raises:
        ModelError: The file is missing, too large, damaged, or holds something else.
    """
    try:
        if path.stat().st_size > most_bytes:
            raise ValueError(f"it is larger than {most_bytes} bytes")
        data = path.read_bytes()
        length = int.from_bytes(data[:LENGTH_BYTES], "little")
        start = LENGTH_BYTES + length
        if len(data) < LENGTH_BYTES or length > MOST_HEADER_BYTES or start > len(data):
            raise ValueError("its header leads out of the file")
        header = json.loads(data[LENGTH_BYTES:start])
        if not isinstance(header, dict) or len(header) > MOST_TENSORS:
            raise ValueError("its header is no list of tensors")
        values = memoryview(data)[start:]
        return {
            name: _tensor(entry, values) for name, entry in header.items() if name != "__metadata__"
        }
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(
            f"{str(path)!r} is no safetensors file that can be read ({error}); copy it again"
        ) from error


def _tensor(entry: dict[str, Any], values: memoryview) -> NDArray[np.float32]:
    kind, shape, (begin, end) = TYPES[entry["dtype"]], entry["shape"], entry["data_offsets"]
    numbers = (*shape, begin, end)
    if not all(type(number) is int and number >= 0 for number in numbers) or len(shape) != 2:
        raise ValueError("a tensor is no matrix, or lies nowhere")
    if end > len(values) or end - begin != math.prod(shape) * kind.itemsize:
        raise ValueError("a tensor's size is not that of its shape")
    stored: NDArray[Any] = np.frombuffer(values[begin:end], kind)
    found = stored.reshape(shape).astype(np.float32)
    if not np.isfinite(found).all():
        raise ValueError("a value is no number")
    return found
