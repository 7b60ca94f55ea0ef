"""Writing a GGUF model in another precision, with or without an update added to its weights.

The sum is made in float32 on the dequantized base, some rows at a time, so that memory does not
grow with the model. Q8_0 loses nothing that can be measured; a 4-bit file would lose most of a
small update (see the decision record on quantization).
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType
from numpy.typing import NDArray

from flex_assist.errors import ExportError
from flex_assist.files import write_atomically
from flex_assist.models.gguf_file import architecture, open_gguf, rows_of, shape_of, value_of

F32, F16, Q8_0 = GGMLQuantizationType.F32, GGMLQuantizationType.F16, GGMLQuantizationType.Q8_0
FLOATS = (F32, F16)
STORED_AS = {F32: np.float32, F16: np.float16, Q8_0: np.uint8}
FILE_TYPES = {F16: gguf.LlamaFileType.MOSTLY_F16, Q8_0: gguf.LlamaFileType.MOSTLY_Q8_0}
# Numbers that are in memory as float32 at a time, a few copies of them.
MOST_NUMBERS = 1 << 21
LARGEST_HALF = 65504.0
# Gives what is added to some rows of a tensor.
Update = Callable[[slice], NDArray[np.float32]]


def write_model(
    base: Path,
    target: Path,
    updates: Mapping[str, Update] | None = None,
    metadata: Mapping[str, int | str] | None = None,
    kind: GGMLQuantizationType = Q8_0,
) -> None:
    """Write ``base`` in the precision ``kind`` to ``target``, atomically.

    Args:
        kind: Q8_0 or F16; vectors and rows that do not fit a block keep a float type.
        updates: GGUF tensor name to a function that gives what is added to rows of it, (rows, in).
        metadata: Keys to set beside those of the base.

    Raises:
        ModelError: ``base`` cannot be read.
        ExportError: An update names a tensor that the base does not have, has another shape, or
            a weight is no number any more.
    """
    reader = open_gguf(base)
    wanted = dict(updates or {})
    names = {tensor.name for tensor in reader.tensors}
    if unknown := sorted(set(wanted) - names):
        raise ExportError(f"the base {str(base)!r} has no tensor {unknown[0]!r}")
    known = {"general.file_type": int(FILE_TYPES[kind]), **(metadata or {})}
    write_atomically(target, lambda part: _write(reader, part, wanted, known, kind))


def _write(
    reader: gguf.GGUFReader,
    part: Path,
    updates: Mapping[str, Update],
    metadata: Mapping[str, int | str],
    wanted: GGMLQuantizationType,
) -> None:
    with closing(gguf.GGUFWriter(part, architecture(reader))) as writer:
        copy_metadata(reader, writer, metadata)
        for tensor in reader.tensors:
            shape = shape_of(tensor)
            kind = _target_type(tensor, tensor.name in updates, wanted)
            block, bytes_of_block = gguf.GGML_QUANT_SIZES[kind]
            size = gguf.quant_shape_to_byte_shape(shape, kind) if kind == Q8_0 else shape
            total = math.prod(shape) // block * bytes_of_block
            writer.add_tensor_info(tensor.name, size, np.dtype(STORED_AS[kind]), total, kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        # The library writes whole tensors only.
        assert writer.fout is not None
        (file,) = writer.fout
        writer.write_padding(file, file.tell())
        for tensor in reader.tensors:
            kind, written = _target_type(tensor, tensor.name in updates, wanted), 0
            for rows in _converted(tensor, updates.get(tensor.name), kind):
                written += file.write(rows)
            writer.write_padding(file, written)


def _target_type(
    tensor: gguf.ReaderTensor, changed: bool, wanted: GGMLQuantizationType
) -> GGMLQuantizationType:
    if tensor.tensor_type in FLOATS and not (changed and len(tensor.shape) == 2):
        return tensor.tensor_type
    if len(tensor.shape) == 1:
        # Norms and biases: computed with, not multiplied by.
        return F32
    return F16 if int(tensor.shape[0]) % gguf.GGML_QUANT_SIZES[wanted][0] else wanted


def _converted(
    tensor: gguf.ReaderTensor, update: Update | None, kind: GGMLQuantizationType
) -> Iterator[memoryview]:
    """The bytes of a tensor as ``kind``, some rows at a time."""
    if update is None and tensor.tensor_type == kind:
        yield np.ascontiguousarray(tensor.data).data.cast("B")
        return
    for at, values in rows_of(tensor, MOST_NUMBERS):
        if update is not None:
            delta = update(at)
            if delta.shape != values.shape:
                raise ExportError(
                    f"the update of {tensor.name!r} has shape {delta.shape}, "
                    f"the base {values.shape}; it is of another model"
                )
            values = values + delta
        # Not so for what is no number, which would not be noticed later.
        if not max(values.max(), -values.min()) <= LARGEST_HALF:
            raise ExportError(
                f"a weight of {tensor.name!r} is too large or no number; adapt again, or take "
                "another base model"
            )
        quantized: NDArray[Any] = gguf.quants.quantize(values, kind)
        yield np.ascontiguousarray(quantized).data.cast("B")


def copy_metadata(
    reader: gguf.GGUFReader, writer: gguf.GGUFWriter, changed: Mapping[str, Any], without: str = ""
) -> None:
    """Give a new file the keys of another.

    Args:
        changed: Keys that are set instead.
        without: Keys that begin with this are left out.
    """
    for name, source in reader.fields.items():
        if name.startswith("GGUF.") or name == gguf.Keys.General.ARCHITECTURE or name in changed:
            continue
        if without and name.startswith(without):
            continue
        kind = source.types[0]
        inner = source.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, value_of(source), kind, sub_type=inner)
    for name, value in changed.items():
        text = isinstance(value, str)
        kind = gguf.GGUFValueType.STRING if text else gguf.GGUFValueType.UINT32
        writer.add_key_value(name, value, kind)
