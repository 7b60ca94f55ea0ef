"""Spans: in characters, within bounds, the same for the same seed."""

import random
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flex_assist.evaluate.spans import (
    KIND_WEIGHTS,
    MAX_CHARACTERS,
    MAX_PARSED_BYTES,
    MIN_CHARACTERS,
    Span,
    SpanSource,
)
from flex_assist.language import BY_NAME, LANGUAGES

SOURCES = Path(__file__).parents[2] / "data" / "sources"
PYTHON = BY_NAME["python"]
TEXT = '''"""Größen 😀 und Maße."""


def fläche(breite: float, höhe: float) -> str:
    wert = breite * höhe
    return f"{wert} m² 😀"


class Raum:
    def nenne(self, *namen: str) -> None:
        print("größer 😀", *namen, sep="→")
'''


def draw_all(text: str, language: str, count: int = 300) -> list[Span]:
    source, rng = SpanSource(text, BY_NAME[language]), random.Random(1)
    spans = (source.draw(rng) for _ in range(count))
    return [span for span in spans if span is not None]


def test_syntax_spans_are_cut_by_characters_not_by_bytes() -> None:
    found = {(span.kind, TEXT[span.start : span.end]) for span in draw_all(TEXT, "python")}
    assert ("arguments", "breite: float, höhe: float") in found
    assert ("arguments", '"größer 😀", *namen, sep="→"') in found
    assert ("body", 'wert = breite * höhe\n    return f"{wert} m² 😀"') in found
    assert ("line", "wert = breite * höhe") in found


def test_a_body_in_braces_is_what_is_between_them() -> None:
    text = (SOURCES / "queue.go").read_text()
    bodies = {text[s.start : s.end] for s in draw_all(text, "go") if s.kind == "body"}
    assert "j[a], j[b] = j[b], j[a]\n\tj[a].index, j[b].index = a, b" in bodies


@pytest.mark.parametrize("name", ["queue.go", "store.ts"])
def test_every_kind_is_drawn(name: str) -> None:
    language = {"go": "go", "ts": "typescript"}[name.split(".")[1]]
    spans = draw_all((SOURCES / name).read_text(encoding="utf-8"), language, 600)
    assert {span.kind for span in spans} == set(KIND_WEIGHTS)


def test_the_same_seed_draws_the_same() -> None:
    for seed in range(5):
        one, two = random.Random(seed), random.Random(seed)
        source, other = SpanSource(TEXT, PYTHON), SpanSource(TEXT, PYTHON)
        assert [source.draw(one) for _ in range(50)] == [other.draw(two) for _ in range(50)]
    assert draw_all(TEXT, "python") != draw_all(TEXT + "\n", "python")


def test_lines_begin_behind_the_indentation_and_end_with_a_line() -> None:
    for span in draw_all(TEXT, "python", 600):
        text = TEXT[span.start : span.end]
        if span.kind in ("line", "lines", "rest"):
            assert TEXT[span.end : span.end + 1] in ("\n", "")
        if span.kind == "line":
            assert text == text.lstrip()
            assert "\n" not in text
        if span.kind == "rest":
            assert "\n" not in text


snippets = st.lists(
    st.sampled_from(["def f(a, b):\n", "    x(1, 2)\n", "\n", "   \n", "é😀 = '→'\n", "({[", "\r\n",
                     "\t", "a", "\u2028", "\udcff", "\0"]),
    max_size=30,
).map("".join)  # fmt: skip


@given(snippets, st.integers(0, 100), st.integers(0, 100), st.integers(0, 9))
def test_spans_are_within_bounds(text: str, low: int, size: int, seed: int) -> None:
    rng = random.Random(seed)
    source = SpanSource(text, PYTHON)
    for _ in range(5):
        span = source.draw(rng, low, low + size)
        if span is None:
            continue
        assert low <= span.start < min(low + size, len(text))
        assert span.start < span.end <= len(text)
        assert MIN_CHARACTERS <= span.end - span.start <= MAX_CHARACTERS
        assert text[span.start : span.end].strip()


@pytest.mark.parametrize("text", ["", "\n", "   \n\n", "a"])
def test_where_nothing_fits_nothing_is_drawn(text: str) -> None:
    assert draw_all(text, "python", 20) == []


def test_all_of_a_text_is_covered_by_segments() -> None:
    source, rng = SpanSource(TEXT, PYTHON), random.Random(0)
    for low, high in pairwise(range(0, len(TEXT), 40)):
        assert any(source.draw(rng, low, high) for _ in range(20))


def test_a_text_too_large_to_parse_still_gives_lines() -> None:
    text = "x = call(1, 2)\n" * (MAX_PARSED_BYTES // 15 + 1)
    kinds = {span.kind for span in draw_all(text, "python", 60)}
    assert kinds
    assert not kinds & {"body", "arguments"}


@pytest.mark.parametrize("language", LANGUAGES, ids=lambda language: language.name)
def test_every_language_is_parsed(language: object) -> None:
    name = language.name  # type: ignore[attr-defined]
    spans = draw_all("int main(int a, char **b) { return call(a, b); }\n" * 3, name, 30)
    assert all(span.end <= 150 for span in spans)
