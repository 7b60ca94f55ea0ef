"""Answers that are known: typing what a suggestion said costs no model call.

An answer holds for the very text around it, the very files that computed it and what the repository
added. As long as what is typed is what it says, the rest of it is the answer; after a step back it
still is.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, replace

from flex_assist.complete.request import Completion, Source
from flex_assist.complete.surroundings import CLOSERS, OPENERS, QUOTES, Surroundings
from flex_assist.complete.trim import trim
from flex_assist.engine.protocol import Weights
from flex_assist.files import state
from flex_assist.models.fim import FimTokens

# Answers that are kept. Each is a few hundred bytes: texts around it are kept as digests.
ANSWERS_KEPT = 512
# Closing brackets and quotes that an editor may have put behind the cursor by itself.
MOST_CLOSED = 2
PAIRS = OPENERS | {quote: quote for quote in QUOTES}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What an answer depends on, but for the text around the cursor.

    Attributes:
        files: The state of the files of ``weights``: one that was replaced answers nothing.
        stops: Texts that an answer cannot go beyond.
        context: Tells states of what the repository adds from each other.
    """

    weights: Weights
    files: tuple[tuple[int, int, int], ...]
    fim: FimTokens | None
    language: str | None
    path: str | None
    stops: tuple[str, ...]
    context: Hashable


@dataclass(frozen=True, slots=True, kw_only=True)
class _Key:
    place: Place
    after: bytes
    before: bytes
    length: int


class CompletionCache:
    """The answers used last. For one thread."""

    def __init__(self, limit: int = ANSWERS_KEPT) -> None:
        self._limit = limit
        self._answers: OrderedDict[_Key, Completion] = OrderedDict()

    def __len__(self) -> int:
        return len(self._answers)

    def put(self, place: Place, around: Surroundings, answer: Completion) -> None:
        """Keep an answer, in LF line ends; the one not used for longest goes."""
        key = _key(place, around)
        self._answers.pop(key, None)
        self._answers[key] = answer
        while len(self._answers) > self._limit:
            self._answers.popitem(last=False)

    def has(self, place: Place, around: Surroundings) -> bool:
        """Whether the answer at this very place is known."""
        return _key(place, around) in self._answers

    def find(self, place: Place, around: Surroundings) -> Completion | None:
        """What is left of the newest answer that what was typed agrees with; None without one."""
        length = len(around.before)
        near = [
            (key, answer)
            for key, answer in reversed(self._answers.items())
            if 0 <= length - key.length <= len(answer.text) and key.place == place
        ]
        # The whole document is looked at only where there is something to find.
        for after, closed in _behind(around.after) if near else ():
            digest = _digest(after)
            for key, answer in near:
                if key.after != digest:
                    continue
                rest = _rest(key, answer.text, around, closed)
                if rest is not None:
                    # It was computed ahead for whoever asks first.
                    self._answers[key] = replace(answer, source="cache")
                    self._answers.move_to_end(key)
                    return _known(answer, rest)
        return None

    def clear(self) -> None:
        """Forget everything."""
        self._answers.clear()


def files_of(weights: Weights) -> tuple[tuple[int, int, int], ...] | None:
    """Time of change, size and number of each file; None if one is not there."""
    merged = (weights.merged,) if weights.merged is not None else ()
    try:
        return tuple(map(state, (weights.model, *weights.adapters, *merged)))
    except OSError:
        return None


def _key(place: Place, around: Surroundings) -> _Key:
    before = around.before
    return _Key(
        place=place, after=_digest(around.after), before=_digest(before), length=len(before)
    )


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _behind(after: str) -> Iterator[tuple[str, str]]:
    """The text after the cursor as it is, and without what the editor may have closed itself."""
    yield after, ""
    for count in range(1, MOST_CLOSED + 1):
        if after[count - 1 : count] not in CLOSERS | QUOTES:
            return
        yield after[count:], after[:count]


def _rest(key: _Key, text: str, around: Surroundings, closed: str) -> str | None:
    """What is left of an answer after what was typed since; None if it does not hold here.

    Args:
        closed: What stands right of the cursor now and did not when it was given.
    """
    typed = around.before[key.length :]
    if not text.startswith(typed) or (typed and len(typed) == len(text)):
        return None
    if closed and not _were_opened(typed, closed):
        return None
    if _digest(around.before[: key.length]) != key.before:
        return None
    rest = text[len(typed) :]
    if not closed:
        return rest
    rest, _ = trim(rest, around, several="\n" in rest, ended_by="end")
    return rest or None


def _were_opened(typed: str, closed: str) -> bool:
    """Whether ``closed`` closes what was opened in ``typed`` last and is open still."""
    waiting: list[str] = []
    for letter in typed:
        if waiting and letter == waiting[-1]:
            waiting.pop()
        elif letter in PAIRS and not (waiting and waiting[-1] in QUOTES):
            waiting.append(PAIRS[letter])
    return waiting[-len(closed) :] == list(reversed(closed))


def _known(answer: Completion, rest: str) -> Completion:
    source: Source = "ahead" if answer.source == "ahead" else "cache"
    return replace(
        answer, text=rest, source=source, timings_ms={},
        prompt_tokens=0, reused_tokens=0, completion_tokens=0,
    )  # fmt: skip
