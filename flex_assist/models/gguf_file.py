"""Reading GGUF files, which are untrusted: every fault becomes a ``ModelError``."""

import functools
import mmap
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

from flex_assist.errors import ModelError

MAGIC = b"GGUF"
SMALLEST_BYTES = 24
# Bytes of the values of each kind that have a fixed size, and the kinds that have none.
SCALAR_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
STRING, ARRAY = 8, 9
MOST_DIMENSIONS = 4
MOST_TENSORS, MOST_ENTRIES = 1 << 17, 1 << 16


class _Walk:
    """Goes over the header of a GGUF file, so that no length in it leads out of the file.

    Its methods raise ``ValueError`` or ``struct.error`` where the file is damaged.

    Source: the GGUF specification (github.com/ggml-org/ggml, docs/gguf.md).
    """

    def __init__(self, data: mmap.mmap) -> None:
        self._data, self._at = data, 8

    def header(self) -> None:
        """Metadata entries and tensor records."""
        tensors, entries = self._number("<Q"), self._number("<Q")
        if tensors > MOST_TENSORS or entries > MOST_ENTRIES:
            raise ValueError(f"it claims {entries} entries and {tensors} tensors")
        for _ in range(entries):
            self._skip(self._number("<Q"))
            self._value(self._number("<I"))
        for _ in range(tensors):
            self._skip(self._number("<Q"))
            dimensions = self._number("<I")
            if not 1 <= dimensions <= MOST_DIMENSIONS:
                raise ValueError(f"a tensor has {dimensions} dimensions")
            if 0 in [self._number("<Q") for _ in range(dimensions)]:
                raise ValueError("a tensor is empty")
            self._skip(4 + 8)

    def _value(self, kind: int) -> None:
        if kind == STRING:
            self._skip(self._number("<Q"))
        elif kind == ARRAY:
            inner, count = self._number("<I"), self._number("<Q")
            if inner == STRING and count <= len(self._data):
                for _ in range(count):
                    self._skip(self._number("<Q"))
            else:
                # Arrays of arrays are in no model; nesting could be endless.
                self._skip(self._width(inner) * count)
        else:
            self._skip(self._width(kind))

    def _width(self, kind: int) -> int:
        if kind not in SCALAR_BYTES:
            raise ValueError(f"a value has the unknown kind {kind}")
        return SCALAR_BYTES[kind]

    def _number(self, form: str) -> int:
        (value,) = struct.unpack_from(form, self._data, self._at)
        self._at += struct.calcsize(form)
        return int(value)

    def _skip(self, count: int) -> None:
        self._at += count
        if self._at > len(self._data):
            raise ValueError("a length leads out of the file")


class _Reader(gguf.GGUFReader):  # type: ignore[misc]
    """The library's reader, four times as fast: a vocabulary has a hundred thousand strings.

    Each part of the file that it looks at is a view of a mapped file, which numpy makes slowly; a
    view of plain memory is the same bytes.
    """

    def _get(
        self, offset: int, dtype: Any, count: int = 1, override_order: Any = None
    ) -> NDArray[Any]:
        plain = self.__dict__.get("_plain")
        if plain is None:
            plain = self._plain = self.data.view(np.ndarray)
        kind = _ordered(dtype, override_order or self.byte_order)
        found: NDArray[Any] = plain[offset : offset + kind.itemsize * int(count)].view(kind)
        return found


@functools.cache
def _ordered(dtype: Any, order: Any) -> np.dtype[Any]:
    ordered: np.dtype[Any] = np.dtype(dtype).newbyteorder(order)
    return ordered


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
        raise ModelError(
            f"{str(path)!r} is not a GGUF file, or cut short; give a whole one, or the folder of a "
            "Hugging Face model"
        )
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
        # The reader trusts the counts in a file: it would follow them for hours.
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            _Walk(data).header()
        return _Reader(path)
    except (ValueError, KeyError, IndexError, OverflowError, struct.error, OSError) as error:
        raise ModelError(
            f"{str(path)!r} is damaged or cut short ({error}); fetch or copy it again"
        ) from error


def field(reader: gguf.GGUFReader, key: str, default: Any = None) -> Any:
    """The value of a metadata key, or ``default``.

    Raises:
        ModelError: It is a text in another encoding than UTF-8.
    """
    found = reader.get_field(key)
    return default if found is None else value_of(found)


def value_of(entry: gguf.ReaderField) -> Any:
    """The value of a metadata entry.

    Raises:
        ModelError: It is a text in another encoding than UTF-8.
    """
    try:
        return entry.contents()
    except UnicodeDecodeError as error:
        raise ModelError(
            f"the text {entry.name!r} of the GGUF file is no UTF-8; fetch or copy the file again"
        ) from error


def architecture(reader: gguf.GGUFReader) -> str:
    """The value of ``general.architecture``.

    Raises:
        ModelError: The file has none.
    """
    name = field(reader, gguf.Keys.General.ARCHITECTURE)
    if not isinstance(name, str):
        raise ModelError("the GGUF file names no architecture; it is not a model")
    return name


def count(reader: gguf.GGUFReader, key: str, most: int, default: Any = None) -> int:
    """The value of a metadata key that must be a number from 1 to ``most``.

    Raises:
        ModelError: It is missing, or is none.
    """
    value = field(reader, key, default)
    if not isinstance(value, int) or not 1 <= value <= most:
        raise ModelError(f"the model file says {key} = {value!r}; it is damaged or not supported")
    return value


def shape_of(tensor: gguf.ReaderTensor) -> tuple[int, ...]:
    """The tensor's shape, rows first (out, in)."""
    return tuple(int(size) for size in reversed(tensor.shape.tolist()))


def rows_of(
    tensor: gguf.ReaderTensor, most_numbers: int
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """The tensor dequantized to float32, some rows at a time, with where they are.

    A vector is one row, and comes as it is.

    Args:
        most_numbers: Not more numbers at a time, but at least one row.

    Raises:
        ModelError: It is stored in a form that cannot be read.
    """
    shape = shape_of(tensor)
    if len(shape) == 1:
        yield slice(0, shape[0]), tensor_values(tensor)
        return
    data = tensor.data.reshape(-1, tensor.data.shape[-1])
    step = max(1, most_numbers // shape[-1])
    for start in range(0, data.shape[0], step):
        at = slice(start, min(start + step, data.shape[0]))
        yield at, _dequantized(tensor, data[at])


def values_at(tensor: gguf.ReaderTensor, rows: NDArray[np.intp]) -> NDArray[np.float32]:
    """Some rows of a matrix, dequantized to float32.

    Raises:
        ModelError: It is stored in a form that cannot be read.
    """
    return _dequantized(tensor, tensor.data[rows])


def tensor_values(tensor: gguf.ReaderTensor) -> NDArray[np.float32]:
    """The tensor dequantized to float32, rows first (out, in)."""
    return _dequantized(tensor, tensor.data).reshape(shape_of(tensor))


def is_low_bit(reader: gguf.GGUFReader) -> bool:
    """Whether weights are stored in five bits or fewer."""
    few = ("Q2", "Q3", "Q4", "Q5", "IQ")
    return any(tensor.tensor_type.name.startswith(few) for tensor in reader.tensors)


def _dequantized(tensor: gguf.ReaderTensor, data: NDArray[Any]) -> NDArray[np.float32]:
    try:
        return np.asarray(gguf.quants.dequantize(data, tensor.tensor_type), dtype=np.float32)
    except NotImplementedError as error:
        raise ModelError(
            f"the weights {tensor.name!r} are stored as {tensor.tensor_type.name}, which cannot be "
            "read; take the model in F16, Q8_0 or a Q4 or Q5 form"
        ) from error
