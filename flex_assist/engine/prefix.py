"""What prompts begin with: what two have in common, and what a KV held of one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class KeptPrefix:
    """What a KV held: its tokens, and llama.cpp's bytes of it."""

    tokens: tuple[int, ...]
    state: "NDArray[np.uint8]"


def shared(held: Sequence[int], wanted: Sequence[int]) -> int:
    """How many tokens two sequences begin with alike."""
    pairs = enumerate(zip(held, wanted, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(held), len(wanted)))
