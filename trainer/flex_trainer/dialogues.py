"""From a question and its answer to a sample: laid out as the chat lays it out when it serves."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from flex_assist.chat.service import SYSTEM
from flex_assist.chat.template import ControlToken, Turn, lay_out, pieces_of, tokens_of
from flex_assist.chat.window import Exchange, turns_of
from flex_assist.engine.protocol import ModelFacts, TextPiece
from flex_trainer.corpus import UNLABELLED, Sample

# How an answer begins is left to the base: learnt from these, all answers would begin like them.
_OPENING = re.compile(r"`{3,}\w*\n|`[^`\n]+` is defined in ")
EncodePieces = Callable[[Sequence[TextPiece]], list[list[int]]]


class Dialogues:
    """Lays out single questions with their answers.

    Args:
        facts: Of the served model.
        encode: Pieces of text to ids by its own vocabulary.
    """

    def __init__(self, facts: ModelFacts, encode: EncodePieces) -> None:
        self._facts, self._encode = facts, encode
        self._end_id = self._end_of_turn() if self.known else None

    @property
    def known(self) -> bool:
        """Whether the model knows chats: it has a template of its own."""
        return self._facts.chat_template is not None

    def sample(self, exchange: Exchange, most_tokens: int) -> Sample | None:
        """The prompt of a question, its answer, and the end of the turn.

        The prompt has no labels, nor has what the answer begins with.

        Returns:
            None where it is longer than ``most_tokens``.
        """
        if self._end_id is None or not exchange.answer:
            return None
        opening = _OPENING.match(exchange.answer)
        at = opening.end() if opening else 0
        texts = [exchange.answer[:at], exchange.answer[at:]]
        opened, rest = self._encode([TextPiece(text=text) for text in texts])
        given = [*self.prompt(exchange), *opened]
        tokens = (*given, *rest, self._end_id)
        if len(tokens) > most_tokens:
            return None
        labels = (UNLABELLED,) * len(given) + tokens[len(given) :]
        return Sample(tokens=tokens, labels=labels, weights=(1.0,) * len(tokens))

    def prompt(self, exchange: Exchange) -> list[int]:
        """What the model is asked, the answer left out."""
        asked = replace(exchange, answer=None)
        layout = lay_out(self._facts.chat_template, turns_of(SYSTEM, [asked]))
        return tokens_of(layout, self._encode(pieces_of(layout)), self._facts)

    def _end_of_turn(self) -> int:
        """What the template puts behind an answer, where that is what ends generation."""
        facts = self._facts
        turns = [
            Turn(role="user", text="a"),
            Turn(role="assistant", text="b"),
            Turn(role="user", text="c"),
        ]
        layout = lay_out(facts.chat_template, turns)
        at = layout.index(TextPiece(text="b"))
        following = layout[at + 1]
        if isinstance(following, ControlToken):
            return facts.end_ids[0]
        (ids,) = self._encode([following])
        return next((one for one in ids if one in facts.end_ids), facts.end_ids[0])
