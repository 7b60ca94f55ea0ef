"""Text to token ids by the served model's own vocabulary, and its infilling tokens."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from flex_assist.engine.local import LocalEngine
from flex_assist.engine.protocol import ModelFacts, TextPiece
from flex_assist.errors import ModelError
from flex_assist.models.fim import FimTokens
from flex_assist.models.store import BaseModel


class Vocabulary:
    """Encodes texts. Control tokens in a text are encoded as plain text."""

    def __init__(self, engine: LocalEngine, model: Path) -> None:
        self._engine, self._model = engine, model

    def encode(self, text: str) -> list[int]:
        """Token ids of ``text``."""
        return self._engine.tokenize_now(self._model, [TextPiece(text=text)])[0]

    def encode_pieces(self, pieces: Sequence[TextPiece]) -> list[list[int]]:
        """Token ids of each piece; control tokens count as such where a piece says so."""
        return self._engine.tokenize_now(self._model, pieces)

    def facts(self) -> ModelFacts:
        """What the model's file says of it."""
        return asyncio.run(self._engine.facts(self._model))

    def count(self, text: str) -> int:
        """Number of tokens of ``text``."""
        return len(self.encode(text))


def fim_tokens(engine: LocalEngine, model: Path, base: BaseModel) -> FimTokens:
    """The infilling tokens to train with: the model's own, or control tokens it never met.

    Raises:
        ModelError: It has none, and none are known that could be taught.
    """
    facts = asyncio.run(engine.facts(model))
    if facts.fim_ids is not None:
        prefix, suffix, middle = facts.fim_ids
        return FimTokens(
            suffix_id=suffix, prefix_id=prefix, middle_id=middle, end_id=facts.end_ids[0]
        )
    texts = base.entry.fim_sentinels if base.entry else None
    if texts is None:
        raise ModelError(
            f"{base.name!r} has no infilling tokens and none are known for it; "
            "use a model of `flex-assist models list`"
        )
    ids = engine.tokenize_now(model, [TextPiece(text=text, special=True) for text in texts])
    if any(len(found) != 1 for found in ids):
        raise ModelError(f"{base.name!r} lacks the control tokens {texts!r}")
    suffix, prefix, middle, end = (found[0] for found in ids)
    return FimTokens(suffix_id=suffix, prefix_id=prefix, middle_id=middle, end_id=end)
