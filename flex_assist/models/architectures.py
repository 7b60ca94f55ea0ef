"""How the weights of a model family are laid out in GGUF, against the layout of the trainer.

llama.cpp stores the rows of the query and key projections of some families re-ordered within each
head, (2, d/2) swapped, for its form of rotary embedding. Whoever moves weights or updates between
the two layouts must do the same.
"""

from dataclasses import dataclass

import gguf
import numpy as np
from numpy.typing import NDArray

from flex_assist.errors import ModelError
from flex_assist.models.gguf_file import count

QUERY, KEY = "attn_q", "attn_k"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The layout of one model.

    Attributes:
        heads: Attention heads of the queries, and of keys and values.
        reordered: Whether query and key rows are re-ordered in the GGUF file.
    """

    architecture: str
    blocks: int
    heads: tuple[int, int]
    reordered: bool

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
        """Re-order the rows (out, anything) of the tensor ``name`` for the GGUF file."""
        heads = self._heads(name)
        return rows if heads is None else _swap(rows, (heads, 2, -1))

    def from_gguf(self, name: str, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """The reverse of ``to_gguf``."""
        heads = self._heads(name)
        return rows if heads is None else _swap(rows, (heads, -1, 2))

    def _heads(self, name: str) -> int | None:
        if not self.reordered:
            return None
        kind = name.split(".")[2] if name.startswith("blk.") else ""
        return {QUERY: self.heads[0], KEY: self.heads[1]}.get(kind)


REORDERED = {"llama": True}
MOST_HEADS, MOST_BLOCKS = 1024, 1024


def layout(reader: gguf.GGUFReader, architecture: str) -> Layout:
    """The layout of a GGUF model.

    Raises:
        ModelError: The family is not supported.
    """
    if architecture not in REORDERED:
        known = ", ".join(sorted(REORDERED))
        raise ModelError(
            f"models of the family {architecture!r} cannot be adapted yet; supported: {known}"
        )
    heads = count(reader, f"{architecture}.attention.head_count", MOST_HEADS)
    kv_heads = count(reader, f"{architecture}.attention.head_count_kv", MOST_HEADS, heads)
    return Layout(
        architecture=architecture,
        blocks=count(reader, f"{architecture}.block_count", MOST_BLOCKS),
        heads=(heads, kv_heads),
        reordered=REORDERED[architecture],
    )


def _swap(rows: NDArray[np.float32], split: tuple[int, int, int]) -> NDArray[np.float32]:
    if rows.shape[0] % (2 * split[0]):
        raise ModelError(f"{rows.shape[0]} rows cannot be those of {split[0]} heads; damaged?")
    grouped = rows.reshape(*split, *rows.shape[1:]).swapaxes(1, 2)
    return np.ascontiguousarray(grouped.reshape(rows.shape))
