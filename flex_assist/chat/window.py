"""What of a conversation fits the model's context: the oldest turns go first, then attachments.

The last question is always kept. Files attached to a turn that goes move to the next question, so
that "and what about this function?" still finds its file.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flex_assist.chat.attachments import Attachment
from flex_assist.chat.template import Layout, Turn, lay_out, pieces_of, tokens_of
from flex_assist.engine.protocol import Engine, ModelFacts, TextPiece
from flex_assist.errors import DataError

CUT_MARK = "[… the rest is cut: it does not fit the context]"
MAX_CUTS = 12
_FENCES = re.compile(r"^ {0,3}(`{3,})", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A question, what was attached to it, and its answer; the last has none yet."""

    question: str
    attachments: tuple[Attachment, ...] = ()
    answer: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A prompt that fits.

    Attributes:
        dropped: How many of the oldest exchanges were left out.
        cut: Labels of the attachments that were shortened or left out.
    """

    tokens: tuple[int, ...]
    dropped: int
    cut: tuple[str, ...]


async def fit(
    engine: Engine,
    model: Path,
    facts: ModelFacts,
    system: str,
    exchanges: Sequence[Exchange],
    budget_tokens: int,
) -> Fitted:
    """Lay out as much of a conversation as ``budget_tokens`` holds.

    Raises:
        DataError: Not even the last question fits.
        ModelError: The model's chat template fails.
    """
    kept = _each_file_once(exchanges)
    labels = [attachment.label for exchange in kept for attachment in exchange.attachments]
    counter = _Counter(engine, model, facts, system)
    surplus = await _surplus(counter, kept, budget_tokens)
    for _ in range(surplus):
        kept = _without_oldest(kept)
    tokens = await counter.tokens(kept)
    while len(tokens) > budget_tokens and len(kept) > 1:
        kept = _without_oldest(kept)
        tokens = await counter.tokens(kept)
    dropped = len(exchanges) - len(kept)
    if len(tokens) > budget_tokens:
        bare = await counter.tokens([replace(kept[-1], attachments=())])
        if len(bare) > budget_tokens:
            raise DataError(
                f"the message has {len(bare)} tokens and only {budget_tokens} fit: shorten it, or"
                " raise engine.context_tokens in the settings"
            )
        kept = await _cut(counter, kept[-1], budget_tokens - len(bare), budget_tokens)
        tokens = await counter.tokens(kept)
    left = {
        attachment.label: attachment.text
        for exchange in kept
        for attachment in exchange.attachments
    }
    cut = [label for label in labels if label not in left or left[label].endswith(CUT_MARK)]
    return Fitted(tokens=tuple(tokens), dropped=dropped, cut=tuple(cut))


class _Counter:
    """Turns exchanges into tokens; knows what does not change meanwhile."""

    def __init__(self, engine: Engine, model: Path, facts: ModelFacts, system: str) -> None:
        self._engine, self._model, self._facts, self._system = engine, model, facts, system

    async def tokens(self, exchanges: Sequence[Exchange]) -> list[int]:
        layout = lay_out(self._facts.chat_template, turns_of(self._system, exchanges))
        return await self.encode(layout)

    async def encode(self, layout: Layout) -> list[int]:
        encoded = await self._engine.tokenize(self._model, pieces_of(layout))
        return tokens_of(layout, encoded, self._facts)

    async def sizes(self, texts: Sequence[str]) -> list[int]:
        pieces = [TextPiece(text=text) for text in texts]
        return [len(ids) for ids in await self._engine.tokenize(self._model, pieces)]


def turns_of(system: str, exchanges: Sequence[Exchange]) -> list[Turn]:
    """The messages that a conversation makes."""
    turns = [Turn(role="system", text=system)]
    for exchange in exchanges:
        blocks = [block_of(attachment) for attachment in exchange.attachments]
        turns.append(Turn(role="user", text="\n\n".join([*blocks, exchange.question])))
        if exchange.answer is not None:
            turns.append(Turn(role="assistant", text=exchange.answer))
    return turns


def block_of(attachment: Attachment) -> str:
    """An attachment as the model reads it."""
    language = attachment.language.name if attachment.language else ""
    return f"File `{attachment.label}`:\n{fenced(attachment.text, language)}"


def fenced(text: str, language: str) -> str:
    """A Markdown block of code; its fence is longer than any inside."""
    inner = max((len(found) for found in _FENCES.findall(text)), default=2)
    fence = "`" * max(3, inner + 1)
    body = text.rstrip("\n")
    return f"{fence}{language}\n{body}\n{fence}"


def _each_file_once(exchanges: Sequence[Exchange]) -> list[Exchange]:
    """A file that is named again stays where it was named first: the text before it is shared."""
    seen: set[str] = set()
    result = []
    for exchange in exchanges:
        fresh = {a.label: a for a in exchange.attachments if a.label not in seen}
        seen |= fresh.keys()
        result.append(replace(exchange, attachments=tuple(fresh.values())))
    return result


def _without_oldest(exchanges: Sequence[Exchange]) -> list[Exchange]:
    oldest, following, *rest = exchanges
    moved = replace(following, attachments=(*oldest.attachments, *following.attachments))
    return [moved, *rest]


async def _surplus(counter: _Counter, exchanges: Sequence[Exchange], budget: int) -> int:
    """How many of the oldest exchanges cannot fit, by their texts alone: one call of the engine."""
    blocks = [block_of(a) for exchange in exchanges for a in exchange.attachments]
    texts = [f"{exchange.question}\n{exchange.answer or ''}" for exchange in exchanges]
    sizes = await counter.sizes([*texts, *blocks])
    total, surplus = sum(sizes), 0
    while total > budget and surplus < len(exchanges) - 1:
        total -= sizes[surplus]
        surplus += 1
    return surplus


async def _cut(
    counter: _Counter, last: Exchange, room_tokens: int, budget_tokens: int
) -> list[Exchange]:
    """Shorten the attachments of the last question until all of it fits."""
    sizes = await counter.sizes([block_of(attachment) for attachment in last.attachments])
    for _ in range(MAX_CUTS):
        shares = fair_shares(sizes, room_tokens)
        attachments = [
            shortened
            for attachment, size, share in zip(last.attachments, sizes, shares, strict=True)
            if (shortened := _shorten(attachment, share / size)) is not None
        ]
        exchange = replace(last, attachments=tuple(attachments))
        if len(await counter.tokens([exchange])) <= budget_tokens:
            return [exchange]
        room_tokens = int(room_tokens * 0.85) - 8
        if room_tokens <= 0:
            break
    return [replace(last, attachments=())]


def fair_shares(sizes: Sequence[int], room: int) -> list[int]:
    """Divide ``room``: nobody gets more than asked, what small ones leave goes to the large."""
    shares = [0] * len(sizes)
    left = room
    by_size = sorted(range(len(sizes)), key=lambda index: sizes[index])
    for position, index in enumerate(by_size):
        shares[index] = min(sizes[index], left // (len(sizes) - position))
        left -= shares[index]
    return shares


def _shorten(attachment: Attachment, share: float) -> Attachment | None:
    if share >= 1:
        return attachment
    start = attachment.text[: int(len(attachment.text) * share)]
    whole_lines = start[: start.rfind("\n") + 1] or start
    if not whole_lines.strip():
        return None
    return replace(attachment, text=f"{whole_lines.rstrip()}\n{CUT_MARK}")
