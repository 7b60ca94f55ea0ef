"""Writing a GGUF model in another precision, with or without an update added to its weights.

The sum is made in float32 on the dequantized base, one tensor at a time, so that memory stays at
one tensor. Q8_0 loses nothing that can be measured; a 4-bit file would lose most of a small update
(see the decision record on quantization).
"""

import math
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType
from numpy.typing import NDArray

from flex_assist.errors import ExportError
from flex_assist.files import write_atomically
from flex_assist.models.gguf_file import architecture, open_gguf, tensor_values

F32, F16, Q8_0 = GGMLQuantizationType.F32, GGMLQuantizationType.F16, GGMLQuantizationType.Q8_0
FLOATS = (F32, F16)
STORED_AS = {F32: np.float32, F16: np.float16, Q8_0: np.uint8}
FILE_TYPES = {F16: gguf.LlamaFileType.MOSTLY_F16, Q8_0: gguf.LlamaFileType.MOSTLY_Q8_0}
Update = Callable[[], NDArray[np.float32]]


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
        updates: GGUF tensor name to a function that gives what is added to it, shape (out, in).
        metadata: Keys to set beside those of the base.

    Raises:
        ModelError: ``base`` cannot be read.
        ExportError: An update names a tensor that the base does not have, or has another shape.
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
        _copy_metadata(reader, writer, metadata)
        for tensor in reader.tensors:
            shape = tuple(int(size) for size in reversed(tensor.shape.tolist()))
            kind = _target_type(tensor, tensor.name in updates, wanted)
            block, bytes_of_block = gguf.GGML_QUANT_SIZES[kind]
            size = gguf.quant_shape_to_byte_shape(shape, kind) if kind == Q8_0 else shape
            total = math.prod(shape) // block * bytes_of_block
            writer.add_tensor_info(tensor.name, size, np.dtype(STORED_AS[kind]), total, kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor in reader.tensors:
            writer.write_tensor_data(_data(tensor, updates.get(tensor.name), wanted))


def _target_type(
    tensor: gguf.ReaderTensor, changed: bool, wanted: GGMLQuantizationType
) -> GGMLQuantizationType:
    if tensor.tensor_type in FLOATS and not (changed and len(tensor.shape) == 2):
        return tensor.tensor_type
    if len(tensor.shape) == 1:
        # Norms and biases: computed with, not multiplied by.
        return F32
    return F16 if int(tensor.shape[0]) % gguf.GGML_QUANT_SIZES[wanted][0] else wanted


def _data(
    tensor: gguf.ReaderTensor, update: Update | None, wanted: GGMLQuantizationType
) -> NDArray[Any]:
    kind = _target_type(tensor, update is not None, wanted)
    if update is None and tensor.tensor_type == kind:
        return np.asarray(tensor.data)
    values = tensor_values(tensor)
    if update is not None:
        delta = update()
        if delta.shape != values.shape:
            raise ExportError(
                f"the update of {tensor.name!r} has shape {delta.shape}, the base {values.shape}"
            )
        values = values + delta
    quantized: NDArray[Any] = gguf.quants.quantize(values, kind)
    return quantized


def _copy_metadata(
    reader: gguf.GGUFReader, writer: gguf.GGUFWriter, changed: Mapping[str, Any]
) -> None:
    for name, source in reader.fields.items():
        if name.startswith("GGUF.") or name == gguf.Keys.General.ARCHITECTURE or name in changed:
            continue
        kind = source.types[0]
        inner = source.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, source.contents(), kind, sub_type=inner)
    for name, value in changed.items():
        text = isinstance(value, str)
        kind = gguf.GGUFValueType.STRING if text else gguf.GGUFValueType.UINT32
        writer.add_key_value(name, value, kind)
