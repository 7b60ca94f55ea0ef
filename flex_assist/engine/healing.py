"""Token healing: begin an answer with given bytes, in whichever tokens the model likes.

A prompt cut at a cursor often ends inside what would be one token. Its last token is left off and
its bytes are forced instead: only tokens that spell them, or go on from them, may come.
"""

import bisect
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


class Vocabulary:
    """All tokens of a model by what they spell.

    Args:
        spellings: The bytes of each token, by id; empty for control tokens.
    """

    __slots__ = ("_exact", "_ids", "_sorted")

    def __init__(self, spellings: Iterable[bytes]) -> None:
        pairs = sorted((text, token) for token, text in enumerate(spellings) if text)
        self._sorted = [text for text, _ in pairs]
        self._ids = np.array([token for _, token in pairs], dtype=np.intp)
        self._exact: dict[bytes, list[int]] = {}
        for text, token in pairs:
            self._exact.setdefault(text, []).append(token)

    def allowed(self, forced: bytes) -> NDArray[np.intp]:
        """Ids of the tokens that begin with ``forced`` or that ``forced`` begins with."""
        first = bisect.bisect_left(self._sorted, forced)
        following = _next_in_order(forced)
        last = (
            len(self._sorted) if following is None else bisect.bisect_left(self._sorted, following)
        )
        shorter = [
            token
            for length in range(1, len(forced))
            for token in self._exact.get(forced[:length], ())
        ]
        return np.concatenate([self._ids[first:last], np.array(shorter, dtype=np.intp)])


def _next_in_order(prefix: bytes) -> bytes | None:
    """The least byte string above all that begin with ``prefix``; None if there is none."""
    trimmed = prefix.rstrip(b"\xff")
    return trimmed[:-1] + bytes([trimmed[-1] + 1]) if trimmed else None
