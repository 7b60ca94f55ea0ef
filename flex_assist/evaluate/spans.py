"""Spans of source code that a model is asked to fill in: what people leave to a completion.

Kinds: ``rest`` of a line from somewhere inside it, a whole ``line``, some ``lines``, the ``body``
of a function, the ``arguments`` of a call (both along the syntax tree), and a ``random`` span.
"""

import bisect
import random
from collections.abc import Iterator
from dataclasses import dataclass

from flex_assist.language import Language, parser

BODY_NODES = frozenset(
    {
        "block",
        "body_statement",
        "class_body",
        "compound_statement",
        "constructor_body",
        "declaration_list",
        "function_body",
        "statement_block",
    }
)
ARGUMENT_NODES = frozenset({"argument_list", "arguments", "formal_parameters", "parameters"})
KIND_WEIGHTS = {
    "rest": 0.34,
    "line": 0.2,
    "lines": 0.14,
    "body": 0.14,
    "arguments": 0.08,
    "random": 0.1,
}
MIN_CHARACTERS, MAX_CHARACTERS = 2, 400
MAX_PARSED_BYTES = 400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """``text[start:end]`` in characters."""

    kind: str
    start: int
    end: int


class SpanSource:
    """Draws spans from one text. It is parsed once; the generator decides what is drawn."""

    def __init__(self, text: str, language: Language) -> None:
        self._text = text
        self._starts = [0, *(at + 1 for at, letter in enumerate(text) if letter == "\n")]
        self._nodes = _syntax_spans(text, language)

    def draw(self, rng: random.Random, low: int = 0, high: int | None = None) -> Span | None:
        """A span that starts in ``[low, high)``; None where nothing fits after some tries."""
        top = len(self._text) if high is None else min(high, len(self._text))
        kinds, weights = list(KIND_WEIGHTS), list(KIND_WEIGHTS.values())
        for _ in range(12):
            kind = rng.choices(kinds, weights)[0]
            span = self._draw(kind, rng, low, top)
            # A whole line may begin before ``low``, though something of it lies behind.
            if span and low <= span.start < top and self._fits(span):
                return span
        return None

    def _draw(self, kind: str, rng: random.Random, low: int, high: int) -> Span | None:
        if high <= low:
            return None
        if kind in self._nodes:
            nodes = self._nodes[kind]
            first, last = bisect.bisect_left(nodes, (low, 0)), bisect.bisect_left(nodes, (high, 0))
            if first == last:
                return None
            start, end = nodes[rng.randrange(first, last)]
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
        return MIN_CHARACTERS <= size <= MAX_CHARACTERS and len(text.strip()) >= MIN_CHARACTERS


def _syntax_spans(text: str, language: Language) -> dict[str, list[tuple[int, int]]]:
    data = text.encode("utf-8", "surrogatepass")
    found: dict[str, list[tuple[int, int]]] = {"body": [], "arguments": []}
    if len(data) > MAX_PARSED_BYTES:
        return found
    to_characters = _byte_to_character(text, data)
    for kind, start, end in _walk(data, language):
        if 0 < end - start <= MAX_CHARACTERS * 2:
            found[kind].append((to_characters(start), to_characters(end)))
    return {kind: sorted(spans) for kind, spans in found.items()}


def _walk(data: bytes, language: Language) -> Iterator[tuple[str, int, int]]:
    cursor = parser(language).parse(data).walk()
    while True:
        node = cursor.node
        assert node is not None
        if node.type in BODY_NODES and not node.has_error:
            braces = data[node.start_byte : node.start_byte + 1] == b"{"
            inside = (node.start_byte + 1, node.end_byte - 1) if braces else node.byte_range
            yield "body", *_stripped(data, *inside)
        elif node.type in ARGUMENT_NODES and node.end_byte - node.start_byte > 4:
            yield "arguments", node.start_byte + 1, node.end_byte - 1
        if cursor.goto_first_child():
            continue
        while not cursor.goto_next_sibling():
            if not cursor.goto_parent():
                return


def _stripped(data: bytes, start: int, end: int) -> tuple[int, int]:
    part = data[start:end]
    return start + len(part) - len(part.lstrip()), start + len(part.rstrip())


def _byte_to_character(text: str, data: bytes):  # type: ignore[no-untyped-def]
    if len(text) == len(data):
        return lambda at: at
    offsets = []
    for index, letter in enumerate(text):
        offsets.extend([index] * len(letter.encode("utf-8", "surrogatepass")))
    offsets.append(len(text))
    return offsets.__getitem__
