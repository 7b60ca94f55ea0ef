"""How much of an update's length a quantizer leaves, and what makes up for it.

With an importance matrix llama.cpp searches the grid on which a tensor's rounding costs least.
Where the base came in few bits that is close to the base's own grid: its values are met well, and
the update, smaller than half a step, falls back on them. On a sample of each tensor's rows we see
how long the update is afterwards, and merge it longer by so much.
"""

import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import gguf
import numpy as np
from numpy.typing import NDArray

from flex_assist.errors import ExportError
from flex_assist.models.gguf_file import architecture, open_gguf, shape_of, tensor_values, values_at
from flex_assist.models.importance import read_importance, write_importance
from flex_assist.models.quantized import LARGEST_HALF, copy_metadata
from flex_assist.models.survival import StoredUpdate, even_rows, stored_updates

# Of each tensor so many numbers are rounded to learn from.
SAMPLE_NUMBERS = 1 << 15
# Where less is left, the form cannot hold the update with the matrix: most weights fall back on the
# base's, and making the others longer brings them no nearer. Without it rounding has less system.
LEAST_SHARE: Final = 0.6
# Nearer to 1 than so many standard errors a share says nothing: the update is short, or rare.
LEAST_ERRORS: Final = 3.0
Quantize = Callable[[Path, Path, Path], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """What to merge and to quantize with.

    Attributes:
        shares: By the tensor type that the quantizer takes (Q5_0): <Q(W0 + dW) - W0, dW> / <dW, dW>
            over the tensors of that type, with the importance matrix; 1 where that is within what
            chance would give.
        gains: By tensor: by how much its update is merged longer.
        dropped: Tensors for which the importance matrix is not used.
    """

    shares: Mapping[str, float]
    gains: Mapping[str, float]
    dropped: frozenset[str]


def learn_correction(
    base: Path, lora: Path, matrix: Path, folder: Path, quantize: Quantize
) -> Correction:
    """Round a sample of base + update with the importance matrix, and see what is left.

    Args:
        base: The file that was trained on.
        folder: For what is removed again.
        quantize: Writes the model of the first path in the form wanted to the second, with the
            matrix of the third.

    Raises:
        ExportError: The update is not of this base, or the sample cannot be quantized.
        ModelError: A file is damaged.
    """
    updates, reader = stored_updates(lora), open_gguf(base)
    _check(reader, base.name, updates)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".sample-") as name:
        whole, rounded = Path(name) / "sample.gguf", Path(name) / "rounded.gguf"
        _write_sample(reader, updates, whole)
        quantize(whole, rounded, matrix)
        tensors = {tensor.name: tensor for tensor in open_gguf(rounded).tensors}
        shares = _shares(reader, updates, tensors)
        types = {name: tensors[name].tensor_type.name for name in updates}
    return Correction(
        shares=shares,
        gains={name: _gain(shares.get(kind, 1.0)) for name, kind in types.items()},
        dropped=frozenset(
            name for name, kind in types.items() if _too_short(shares.get(kind, 1.0))
        ),
    )


def _check(reader: gguf.GGUFReader, base: str, updates: Mapping[str, StoredUpdate]) -> None:
    shapes = {tensor.name: shape_of(tensor) for tensor in reader.tensors}
    for name, update in updates.items():
        if shapes.get(name) != update.shape:
            raise ExportError(
                f"the update is not of the base {base!r} (see {name!r}); take files of one version"
            )


def write_part(matrix: Path, dropped: frozenset[str], target: Path) -> bool:
    """Write an importance matrix without some of its tensors; whether any is left to write."""
    whole = read_importance(matrix)
    sums = {name: values for name, values in whole.sums.items() if name not in dropped}
    if sums:
        write_importance(target, replace(whole, sums=sums), whole.tokens)
    return bool(sums)


def _too_short(share: float) -> bool:
    return share < LEAST_SHARE


def _gain(share: float) -> float:
    return 1.0 if _too_short(share) else max(1.0, 1 / share)


def _sampled(tensor: gguf.ReaderTensor) -> NDArray[np.intp]:
    rows, width = shape_of(tensor)
    return even_rows((rows, width), SAMPLE_NUMBERS)


def _write_sample(
    reader: gguf.GGUFReader, updates: Mapping[str, StoredUpdate], target: Path
) -> None:
    """Some rows of each matrix of base + update; the quantizer chooses types as for the whole."""
    with closing(gguf.GGUFWriter(target, architecture(reader))) as writer:
        copy_metadata(reader, writer, {}, without="tokenizer.")
        for tensor in reader.tensors:
            if len(tensor.shape) != 2:
                writer.add_tensor(tensor.name, tensor_values(tensor))
                continue
            at = _sampled(tensor)
            values = values_at(tensor, at)
            if update := updates.get(tensor.name):
                values = values + update.rows(at)
            # What is too large is refused when all is merged, in words for people.
            values = np.clip(values, -LARGEST_HALF, LARGEST_HALF)
            writer.add_tensor(tensor.name, values.astype(np.float16))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()


def _shares(
    reader: gguf.GGUFReader,
    updates: Mapping[str, StoredUpdate],
    rounded: Mapping[str, gguf.ReaderTensor],
) -> dict[str, float]:
    """By type and not by tensor: of a short update one tensor's rounding says too little."""
    got: defaultdict[str, float] = defaultdict(float)
    wanted: defaultdict[str, float] = defaultdict(float)
    variance: defaultdict[str, float] = defaultdict(float)
    for tensor in reader.tensors:
        if (update := updates.get(tensor.name)) is None:
            continue
        at, kind = _sampled(tensor), rounded[tensor.name].tensor_type.name
        delta = update.rows(at)
        change = tensor_values(rounded[tensor.name]) - values_at(tensor, at)
        got[kind] += float(np.vdot(change, delta))
        wanted[kind] += float(np.vdot(delta, delta))
        variance[kind] += float(np.square((change - delta) * delta).sum())
    shares = {kind: got[kind] / length for kind, length in wanted.items() if length}
    least = {kind: LEAST_ERRORS * variance[kind] ** 0.5 / wanted[kind] for kind in shares}
    return {kind: share if abs(share - 1) > least[kind] else 1.0 for kind, share in shares.items()}
