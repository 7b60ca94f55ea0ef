"""Reading safetensors, which are untrusted: by memory map, one tensor at a time, bfloat16 too.

Source: the format's description (github.com/huggingface/safetensors): 8 bytes length, a JSON header
with type, shape and place of each tensor, then the values.
"""

import math
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flex_assist.errors import ModelError
from flex_assist.models.untrusted import check_plain, read_table, table_of

MOST_HEADER_BYTES = 100_000_000
MOST_TENSORS, MOST_DIMENSIONS = 1 << 16, 4
LENGTH_BYTES = 8
INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
TYPES: Mapping[str, Any] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTensor:
    """A tensor that is still on disk."""

    path: Path
    kind: str
    shape: tuple[int, ...]
    start: int
    length: int

    def stored(self) -> NDArray[Any]:
        """The values as they are kept, bfloat16 as 16-bit numbers; mapped, not read."""
        with self.path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        flat = np.frombuffer(data, TYPES[self.kind], math.prod(self.shape), self.start)
        return flat.reshape(self.shape)

    def values(self) -> NDArray[np.float32]:
        """The values in float32."""
        found = self.stored()
        if self.kind == "BF16":
            return (found.astype(np.uint32) << 16).view(np.float32)
        return found.astype(np.float32)


def open_folder(folder: Path) -> dict[str, StoredTensor]:
    """All tensors of a folder, from one file or from the shards that its index names.

    Raises:
        ModelError: There are none, one is damaged, or the index leads out of the folder.
    """
    if (folder / INDEX).exists():
        shards = _shards(folder / INDEX)
    elif (folder / SINGLE).exists():
        shards = {SINGLE}
    else:
        unsafe = sorted(path.name for path in folder.iterdir() if path.suffix in (".bin", ".pt"))
        hint = f"; {unsafe[0]!r} may run code when it is read: take safetensors" if unsafe else ""
        raise ModelError(f"{str(folder)!r} has no safetensors{hint}")
    tensors: dict[str, StoredTensor] = {}
    for name in sorted(shards):
        tensors |= open_file(folder / name)
    return tensors


def open_file(path: Path) -> dict[str, StoredTensor]:
    """All tensors of one file.

    Raises:
        ModelError: The file is missing or damaged.
    """
    try:
        size = check_plain(path)
        with path.open("rb") as file:
            length = int.from_bytes(file.read(LENGTH_BYTES), "little")
            if not 2 <= length <= min(MOST_HEADER_BYTES, size - LENGTH_BYTES):
                raise ValueError(f"its header claims {length} bytes")
            header = table_of(file.read(length))
        header.pop("__metadata__", None)
        if len(header) > MOST_TENSORS:
            raise ValueError(f"it names {len(header)} tensors")
        start = LENGTH_BYTES + length
        tensors = {name: _tensor(path, one, start, size) for name, one in header.items()}
        _refuse_overlaps(tensors)
        return tensors
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{str(path)!r} is missing, damaged or cut short ({error}); fetch it again"
        ) from error


def read_matrices(path: Path, most_bytes: int) -> dict[str, NDArray[np.float32]]:
    """All matrices of a small file, in float32.

    Args:
        most_bytes: A larger file is refused.

    Raises:
        ModelError: The file is missing, too large, damaged, or holds something else.
    """
    stored = open_file(path)
    if path.stat().st_size > most_bytes:
        raise ModelError(f"{str(path)!r} is larger than {most_bytes} bytes: it is no adapter")
    values = {name: one.values() for name, one in stored.items()}
    odd = [name for name, one in values.items() if one.ndim != 2 or not np.isfinite(one).all()]
    if odd:
        raise ModelError(f"{odd[0]!r} in {str(path)!r} is no matrix of numbers; fetch it again")
    return values


def _shards(index: Path) -> set[str]:
    try:
        names = set(read_table(index)["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{str(index)!r} cannot be read: {error!r}; fetch it again") from error
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or name in ("", ".", ".."):
            raise ModelError(f"{str(index)!r} names {name!r}, which is not a file of its folder")
    return names


def _tensor(path: Path, record: dict[str, Any], offset: int, size: int) -> StoredTensor:
    kind, shape = record["dtype"], tuple(map(_whole, record["shape"]))
    if len(shape) > MOST_DIMENSIONS:
        raise ValueError(f"a tensor has {len(shape)} dimensions")
    if kind not in TYPES:
        raise ValueError(f"values of the type {kind!r}; F32, F16 and BF16 are read")
    start, end = map(_whole, record["data_offsets"])
    length = math.prod(shape) * TYPES[kind].itemsize
    if min(shape, default=0) < 1 or start < 0 or end - start != length or offset + end > size:
        raise ValueError("a tensor leads out of the file")
    return StoredTensor(path=path, kind=kind, shape=shape, start=offset + start, length=length)


def _whole(value: object) -> int:
    if type(value) is not int:
        raise ValueError(f"{value!r} is no whole number")
    return value


def _refuse_overlaps(tensors: Mapping[str, StoredTensor]) -> None:
    """Many tensors over the same bytes would take more memory than the file's size allows."""
    end = 0
    for one in sorted(tensors.values(), key=lambda one: one.start):
        if one.start < end:
            raise ValueError("its tensors overlap")
        end = one.start + one.length
