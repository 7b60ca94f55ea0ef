"""The prompt that llama.cpp's server makes of a request to ``/infill``, made here.

The server's own layout is prefix first, unless it was started with ``--spm-infill``, which the
package that brings it does not hand on. Files merged by this product are taught suffix first, which
also spares the server computing the suffix again at each key. So the tokens are put together here,
by the server's rules for sizes, and go to ``/completion``.
"""

from collections.abc import Callable, Sequence

from flex_assist.models.fim import FimTokens

SNIPPET = "\n\n--- snippet ---\n\n"


class Infill:
    """Makes prompts for one model.

    Args:
        encode: Text to token ids, without special ones.
        predicted_tokens: Room that an answer needs.
    """

    def __init__(
        self,
        encode: Callable[[str], list[int]],
        fim: FimTokens,
        *,
        context_tokens: int,
        batch_tokens: int,
        predicted_tokens: int,
    ) -> None:
        self._encode, self._fim, self._batch = encode, fim, min(batch_tokens, context_tokens)
        self._extra = max(0, context_tokens - self._batch - 2 * predicted_tokens)

    def prompt(
        self, prefix: str, middle: str, suffix: str, chunks: Sequence[tuple[str, str]]
    ) -> list[int]:
        """Pieces of other places, suffix, prefix."""
        begun = self._encode(middle)
        before = [*self._encode(prefix), *begun]
        after = self._encode(suffix)
        quarter = self._batch // 4
        before = before[len(before) - min(len(before), 3 * quarter - 3) :]
        after = after[: max(0, quarter - (2 + len(begun)))]
        extra = [token for _, text in chunks for token in self._encode(SNIPPET + text)]
        extra = extra[len(extra) - min(len(extra), self._extra) :]
        return [*extra, self._fim.suffix_id, *after, self._fim.prefix_id, *before]
