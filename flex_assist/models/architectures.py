"""How the weights of a model family are laid out in GGUF, against the layout of the trainer.

llama.cpp stores the rows of the query and key projections of some families re-ordered within each
head, (2, d/2) swapped, for its form of rotary embedding, and norms of one family with one added.
Whoever moves weights or updates between the two layouts must do the same.
"""

from dataclasses import dataclass

import gguf
import numpy as np
from numpy.typing import NDArray

from flex_assist.errors import ModelError
from flex_assist.models.gguf_file import count, field

QUERY, KEY = "attn_q", "attn_k"
NORM = "norm.weight"


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What the models of one architecture have in common.

    Attributes:
        reordered: Whether query and key rows are re-ordered in the GGUF file.
        norm_offset: What is added to the weights of norms there.
    """

    reordered: bool = False
    norm_offset: float = 0.0


# By ``general.architecture``. Others are refused: a wrong layout would go unnoticed until the
# adapter answers nonsense. Each is compared with llama.cpp in tests/integration/trainer.
FAMILIES = {
    "llama": Family(reordered=True),
    "granite": Family(reordered=True),
    "qwen2": Family(),
    "qwen3": Family(),
    "starcoder2": Family(),
    "gemma3": Family(norm_offset=1.0),
}
MOST_HEADS, MOST_BLOCKS = 1024, 1024
# Ways to stretch the rotary embedding that both sides compute alike.
SCALINGS = ("none", "linear")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The layout of one model.

    Attributes:
        heads: Attention heads of the queries, and of keys and values.
        reordered, norm_offset: See ``Family``.
    """

    architecture: str
    blocks: int
    heads: tuple[int, int]
    reordered: bool
    norm_offset: float = 0.0

    def gguf_name(self, module: str) -> str:
        """GGUF name, without ending, of a module such as ``model.layers.0.self_attn.q_proj``.

        Raises:
            ModelError: The family has no such module.
        """
        arch = next(
            key for key, value in gguf.MODEL_ARCH_NAMES.items() if value == self.architecture
        )
        name: str | None = gguf.get_tensor_name_map(arch, self.blocks).get_name(module)
        if name is None:
            raise ModelError(f"{self.architecture} models have no module {module!r}")
        return name

    def to_gguf(self, name: str, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """The tensor ``name``, rows first, as the GGUF file has it: a weight, a bias, LoRA's B."""
        if self._is_norm(name):
            return rows + np.float32(self.norm_offset)
        heads = self._heads(name)
        return rows if heads is None else _swap(rows, (heads, 2, -1))

    def from_gguf(self, name: str, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """The reverse of ``to_gguf``."""
        if self._is_norm(name):
            return rows - np.float32(self.norm_offset)
        heads = self._heads(name)
        return rows if heads is None else _swap(rows, (heads, -1, 2))

    def _is_norm(self, name: str) -> bool:
        return bool(self.norm_offset) and name.endswith(NORM)

    def _heads(self, name: str) -> int | None:
        if not self.reordered:
            return None
        kind = name.split(".")[2] if name.startswith("blk.") else ""
        return {QUERY: self.heads[0], KEY: self.heads[1]}.get(kind)


def layout(reader: gguf.GGUFReader, architecture: str) -> Layout:
    """The layout of a GGUF model.

    Raises:
        ModelError: The family is not supported, or the model has parts that others of it have not.
    """
    if architecture not in FAMILIES:
        known = ", ".join(sorted(FAMILIES))
        raise ModelError(
            f"models of the family {architecture!r} cannot be adapted yet; supported: {known}"
        )
    if field(reader, f"{architecture}.expert_count", 0):
        raise ModelError(f"{architecture} models with experts cannot be adapted; take a dense one")
    _refuse_partly_rotated(reader, architecture)
    scaling = field(reader, f"{architecture}.rope.scaling.type", "none")
    if scaling not in SCALINGS:
        raise ModelError(
            f"models whose context is stretched by {scaling!r} cannot be adapted yet; take one "
            "without"
        )
    heads = count(reader, f"{architecture}.attention.head_count", MOST_HEADS)
    kv_heads = count(reader, f"{architecture}.attention.head_count_kv", MOST_HEADS, heads)
    return Layout(
        architecture=architecture,
        blocks=count(reader, f"{architecture}.block_count", MOST_BLOCKS),
        heads=(heads, kv_heads),
        reordered=FAMILIES[architecture].reordered,
        norm_offset=FAMILIES[architecture].norm_offset,
    )


def _refuse_partly_rotated(reader: gguf.GGUFReader, architecture: str) -> None:
    size = field(reader, f"{architecture}.attention.key_length")
    rotated = field(reader, f"{architecture}.rope.dimension_count", size)
    if size is not None and rotated != size:
        raise ModelError(
            f"{architecture} models that rotate {rotated!r} of a head's {size!r} numbers cannot be "
            "adapted; take one that rotates all"
        )


def _swap(rows: NDArray[np.float32], split: tuple[int, int, int]) -> NDArray[np.float32]:
    if rows.shape[0] % (2 * split[0]):
        raise ModelError(f"{rows.shape[0]} rows cannot be those of {split[0]} heads; damaged?")
    grouped = rows.reshape(*split, *rows.shape[1:]).swapaxes(1, 2)
    return np.ascontiguousarray(grouped.reshape(rows.shape))
