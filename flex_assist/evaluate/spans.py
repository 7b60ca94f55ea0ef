"""Spans of source code that a model is asked to fill in: what people leave to a completion.

Kinds by lines: the ``rest`` of a line from somewhere inside it, a whole ``line``, some ``lines``.
Kinds along the syntax tree (``syntax.py``): an ``expression``, the ``arguments`` of a call or the
parameters of a function, a ``statement``, the rest of a ``block`` from a statement on, the whole
``body`` of a function or class. And a ``random`` span.
"""

import bisect
import random
from collections.abc import Callable
from dataclasses import dataclass

from flex_assist.evaluate import syntax
from flex_assist.language import Language
from flex_assist.repository.secrets import MASK

# How often each is drawn. Nearly all that people are shown by completions is the rest of a line or
# a line: in a study of tens of thousands of developers 16 % of what was shown, and 42 % of the
# characters that were accepted, was of several lines (Dunay et al., "Multi-line AI-assisted Code
# Authoring", arXiv 2402.04141). Several lines are drawn a little more often than shown, because
# they are where a model learns to stop; docs/log.md has the shares that come out.
KIND_WEIGHTS = {
    "rest": 0.33,
    "line": 0.18,
    "expression": 0.1,
    "arguments": 0.08,
    "statement": 0.1,
    "lines": 0.04,
    "block": 0.06,
    "body": 0.05,
    "random": 0.06,
}
# What is drawn where there is no such place: about as much text, so that the lengths stay.
STAND_INS = {
    "expression": "rest",
    "arguments": "rest",
    "statement": "line",
    "block": "lines",
    "body": "lines",
}
MIN_CHARACTERS, MAX_CHARACTERS = 2, 400
# Hostile nesting costs some grammars time that grows with the square of the length.
MAX_PARSED_BYTES = 100_000
TRIES, TRIES_OF_A_KIND = 4, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """``text[start:end]`` in characters."""

    kind: str
    start: int
    end: int


class SpanSource:
    """Draws spans from one text. It is parsed once, when the first is drawn."""

    def __init__(self, text: str, language: Language) -> None:
        self._text, self._language = text, language
        self._starts = [0, *(at + 1 for at, letter in enumerate(text) if letter == "\n")]
        self._places: dict[str, list[syntax.Place]] | None = None

    def draw(self, rng: random.Random, low: int = 0, high: int | None = None) -> Span | None:
        """A span that starts in ``[low, high)``; None where nothing fits after some tries."""
        top = len(self._text) if high is None else min(high, len(self._text))
        if top <= low:
            return None
        kinds, weights = list(KIND_WEIGHTS), list(KIND_WEIGHTS.values())
        for _ in range(TRIES):
            kind = rng.choices(kinds, weights)[0]
            for wanted in (kind, STAND_INS.get(kind, kind)):
                for _ in range(TRIES_OF_A_KIND):
                    span = self._draw(wanted, rng, low, top)
                    # A whole line may begin before ``low``, though something of it lies behind.
                    if span and low <= span.start < top and self._fits(span):
                        return span
        return None

    def _draw(self, kind: str, rng: random.Random, low: int, high: int) -> Span | None:
        if self._places is None:
            self._places = _places(self._text, self._language)
        if kind in STAND_INS:
            places = self._places.get(kind, [])
            first = bisect.bisect_left(places, (low, 0))
            last = bisect.bisect_left(places, (high, 0))
            if first == last:
                return None
            start, end = places[rng.randrange(first, last)]
            return Span(kind=kind, start=start, end=end)
        at = rng.randrange(low, high)
        if kind == "random":
            return Span(kind=kind, start=at, end=min(len(self._text), at + rng.randint(4, 160)))
        return self._by_lines(kind, rng, at)

    def _by_lines(self, kind: str, rng: random.Random, at: int) -> Span | None:
        row = bisect.bisect_right(self._starts, at) - 1
        start, end = self._starts[row], self._line_end(row)
        indent = len(self._text[start:end]) - len(self._text[start:end].lstrip())
        if kind == "rest":
            return Span(kind=kind, start=max(at, start + indent), end=end) if at < end else None
        if kind == "lines":
            end = self._line_end(min(row + rng.randint(1, 5), len(self._starts) - 1))
        return Span(kind=kind, start=start + indent, end=end)

    def _line_end(self, row: int) -> int:
        last = row + 1 >= len(self._starts)
        return len(self._text) if last else self._starts[row + 1] - 1

    def _fits(self, span: Span) -> bool:
        size = span.end - span.start
        text = self._text[span.start : span.end]
        # What stands for a secret is no answer, nor is a part of it.
        near = self._text[max(0, span.start - len(MASK) + 1) : span.end + len(MASK) - 1]
        return (
            MIN_CHARACTERS <= size <= MAX_CHARACTERS
            and len(text.strip()) >= MIN_CHARACTERS
            and MASK not in near
        )


def _places(text: str, language: Language) -> dict[str, list[syntax.Place]]:
    """The places along the syntax tree in characters, each once, in order."""
    data = text.encode("utf-8", "surrogatepass")
    if len(data) > MAX_PARSED_BYTES:
        return {}
    to_characters = _byte_to_character(text, data)
    return {
        kind: sorted({(to_characters(start), to_characters(end)) for start, end in found})
        for kind, found in syntax.places(data, language, 4 * MAX_CHARACTERS).items()
    }


def _byte_to_character(text: str, data: bytes) -> Callable[[int], int]:
    if len(text) == len(data):
        return lambda at: at
    offsets = []
    for index, letter in enumerate(text):
        offsets.extend([index] * len(letter.encode("utf-8", "surrogatepass")))
    offsets.append(len(text))
    return offsets.__getitem__
