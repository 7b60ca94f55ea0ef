"""KV of documents that are not worked on just now, so that coming back costs no prefill.

One context computes for one document after another. When another one's turn comes, what the KV
holds is copied out (some milliseconds for a thousand tokens) and brought back later, bit for bit.
"""

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from flex_assist.engine.context import Context

# Fewer tokens are computed again sooner than they are copied.
LEAST_TOKENS: Final = 64


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class KeptPrefix:
    """What a KV held: its tokens, and llama.cpp's bytes of it."""

    tokens: tuple[int, ...]
    state: NDArray[np.uint8]


class KeptPrefixes:
    """The documents used last, by weights and name. For one thread.

    Args:
        limit_bytes: For all together; the ones not used for longest go.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._kept: OrderedDict[tuple[Hashable, str], KeptPrefix] = OrderedDict()

    @property
    def size_bytes(self) -> int:
        """What all take."""
        return sum(one.state.nbytes for one in self._kept.values())

    def __len__(self) -> int:
        return len(self._kept)

    def switch(
        self, context: "Context", weights: Hashable, document: str, tokens: Sequence[int]
    ) -> None:
        """Make ``context`` hold what is known of ``document``, if its prompt begins with that.

        Args:
            weights: Tells weights, and thereby what can be brought back, from each other.
            tokens: The prompt that is asked for now.
        """
        if document == context.document:
            return
        self.put(context, weights)
        kept = self._kept.pop((weights, document), None)
        context.document = document
        if kept is not None and shared(kept.tokens, tokens) > shared(context.tokens, tokens):
            context.restore(kept)

    def put(self, context: "Context", weights: Hashable) -> None:
        """Keep what ``context`` holds of its document."""
        if context.length < LEAST_TOKENS:
            return
        self._kept.pop((weights, context.document), None)
        if (kept := context.saved(self._limit_bytes)) is not None:
            self._kept[weights, context.document] = kept
        while self.size_bytes > self._limit_bytes:
            self._kept.popitem(last=False)

    def clear(self) -> None:
        """Free all."""
        self._kept.clear()


def shared(held: Sequence[int], wanted: Sequence[int]) -> int:
    """How many tokens two sequences begin with alike."""
    pairs = enumerate(zip(held, wanted, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(held), len(wanted)))
