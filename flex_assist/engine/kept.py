"""KV of documents that are not worked on just now, so that coming back costs no prefill.

One context computes for one document after another. When another one's turn comes, what the KV
holds is copied out (some milliseconds for a thousand tokens) and brought back later, bit for bit.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from flex_assist.engine.gguf_header import FileState
from flex_assist.engine.prefix import KeptPrefix, shared

if TYPE_CHECKING:
    from flex_assist.engine.context import Context

# A model, and the adapters over it.
WeightsState = tuple[FileState, tuple[FileState, ...]]
# Fewer tokens are computed again sooner than they are copied.
LEAST_TOKENS: Final = 64
# Gives what is kept elsewhere of a document under some weights.
Lookup = Callable[[WeightsState, str], KeptPrefix | None]


class KeptPrefixes:
    """The documents used last, by weights and name. For one thread.

    Args:
        limit_bytes: For all together; the ones not used for longest go.
        lookup: Asked for what is not in memory.
    """

    def __init__(self, limit_bytes: int, lookup: Lookup | None = None) -> None:
        self._limit_bytes = limit_bytes
        self._lookup = lookup
        self._kept: OrderedDict[tuple[WeightsState, str], KeptPrefix] = OrderedDict()

    @property
    def size_bytes(self) -> int:
        """What all take."""
        return sum(one.state.nbytes for one in self._kept.values())

    def __len__(self) -> int:
        return len(self._kept)

    def switch(
        self, context: "Context", weights: WeightsState, document: str, tokens: Sequence[int]
    ) -> None:
        """Make ``context`` hold what is known of ``document``, if its prompt begins with that.

        Args:
            weights: Whose KV it is: nothing of others is ever brought back.
            tokens: The prompt that is asked for now.
        """
        if document == context.document:
            return
        self.put(context, weights)
        kept = self._kept.pop((weights, document), None)
        if kept is None and self._lookup is not None:
            kept = self._lookup(weights, document)
        context.document = document
        if kept is not None and shared(kept.tokens, tokens) > shared(context.tokens, tokens):
            context.restore(kept)

    def put(self, context: "Context", weights: WeightsState) -> None:
        """Keep what ``context`` holds of its document; a chat has none and would not come back."""
        if context.length < LEAST_TOKENS or not context.document:
            return
        self._kept.pop((weights, context.document), None)
        if (kept := context.saved(self._limit_bytes)) is not None:
            self._kept[weights, context.document] = kept
        while self.size_bytes > self._limit_bytes:
            self._kept.popitem(last=False)

    def newest(self) -> list[tuple[WeightsState, str, KeptPrefix]]:
        """All, the one kept last first."""
        return [(weights, name, one) for (weights, name), one in reversed(self._kept.items())]

    def clear(self) -> None:
        """Free all."""
        self._kept.clear()
