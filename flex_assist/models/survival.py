"""How much of an update is still there in a file that holds base + update in fewer bits.

Rounding moves each weight by up to half a step of the file's grid. Where the steps are larger than
the update, most of it is gone, though the model still works: as the base does.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

from flex_assist.errors import ExportError
from flex_assist.models.gguf_file import field, open_gguf, shape_of, tensor_values, values_at

LORA_A, LORA_B = ".lora_a", ".lora_b"
# Of each tensor so many numbers are looked at, in rows that lie evenly in it: a large model takes
# no longer than a small one.
MOST_NUMBERS, LEAST_ROWS = 1 << 17, 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Survival:
    """Of the update of each tensor: cosine(dW, Q(W0 + dW) - W0).

    Attributes:
        mean: Over all tensors with an update.
        least: The lowest, which is of ``tensor``.
    """

    mean: float
    least: float
    tensor: str

    def record(self) -> dict[str, Any]:
        """For the manifest."""
        return {"mean": round(self.mean, 5), "min": round(self.least, 5), "tensor": self.tensor}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoredUpdate:
    """An update as a LoRA GGUF file holds it: b @ a, rows in the file's order."""

    a: NDArray[np.float32]
    b: NDArray[np.float32]

    @property
    def shape(self) -> tuple[int, int]:
        """Of the weight it is added to: rows (out), columns (in)."""
        return self.b.shape[0], self.a.shape[1]

    def rows(self, at: slice | NDArray[np.intp]) -> NDArray[np.float32]:
        """Some rows of what is added to the weight."""
        return self.b[at] @ self.a

    def times(self, factor: float) -> "StoredUpdate":
        """The update, longer by ``factor``."""
        return self if factor == 1 else StoredUpdate(a=self.a, b=self.b * np.float32(factor))


def even_rows(shape: tuple[int, int], numbers: int) -> NDArray[np.intp]:
    """Rows that lie evenly in a matrix: about ``numbers`` of it, at least ``LEAST_ROWS`` rows."""
    rows, width = shape
    count = min(rows, max(LEAST_ROWS, numbers // width))
    return np.linspace(0, rows - 1, count).round().astype(np.intp)


def stored_updates(lora: Path) -> dict[str, StoredUpdate]:
    """The updates of a LoRA GGUF file by tensor name; its scale is in b.

    Raises:
        ModelError: The file is damaged.
        ExportError: It is no LoRA adapter, or a part of one is missing.
    """
    reader = open_gguf(lora)
    if field(reader, gguf.Keys.Adapter.TYPE) != "lora":
        raise ExportError(f"{str(lora)!r} is no LoRA adapter; give an adapter.gguf")
    alpha = field(reader, gguf.Keys.Adapter.LORA_ALPHA)
    tensors = {tensor.name: tensor_values(tensor) for tensor in reader.tensors}
    found = {}
    for name, a in tensors.items():
        if not name.endswith(LORA_A):
            continue
        b = tensors.get(name.removesuffix(LORA_A) + LORA_B)
        matched = b is not None and a.ndim == b.ndim == 2 and b.shape[1] == a.shape[0]
        if not matched or not isinstance(alpha, float):
            raise ExportError(f"{str(lora)!r} is damaged at {name!r}; take another version")
        assert b is not None
        scale = np.float32(alpha / a.shape[0])
        found[name.removesuffix(LORA_A)] = StoredUpdate(a=a, b=b * scale)
    if not found:
        raise ExportError(f"{str(lora)!r} holds no update; take another version")
    return found


def survival(base: Path, lora: Path, merged: Path) -> Survival:
    """Compare what was to be added to ``base`` with what ``merged`` differs from it by.

    Raises:
        ExportError: The files do not belong together, or there is no update at all.
        ModelError: One of them is damaged.
    """
    before = {tensor.name: tensor for tensor in open_gguf(base).tensors}
    after = {tensor.name: tensor for tensor in open_gguf(merged).tensors}
    found = {}
    for name, update in stored_updates(lora).items():
        old, new = before.get(name), after.get(name)
        if old is None or new is None or not update.shape == shape_of(old) == shape_of(new):
            raise ExportError(
                f"{merged.name!r} and {lora.name!r} are not of the base {base.name!r} "
                f"(see {name!r}); take files of one version"
            )
        if update.b.any() and update.a.any():
            found[name] = _cosine(old, new, update)
    if not found:
        raise ExportError(f"the update in {lora.name!r} is zero everywhere; train it first")
    least = min(found, key=lambda name: found[name])
    return Survival(mean=float(np.mean([*found.values()])), least=found[least], tensor=least)


def _cosine(before: gguf.ReaderTensor, after: gguf.ReaderTensor, update: StoredUpdate) -> float:
    at = even_rows(update.shape, MOST_NUMBERS)
    wanted = update.rows(at)
    got = values_at(after, at) - values_at(before, at)
    norms = float(np.linalg.norm(wanted)) * float(np.linalg.norm(got))
    return float(np.vdot(wanted, got)) / norms if norms else 0.0
