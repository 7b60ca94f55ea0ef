"""Spans: in characters, within bounds, the same for the same seed."""

import random
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flex_assist.evaluate import syntax
from flex_assist.evaluate.spans import (
    KIND_WEIGHTS,
    MAX_CHARACTERS,
    MAX_PARSED_BYTES,
    MIN_CHARACTERS,
    Span,
    SpanSource,
)
from flex_assist.language import BY_NAME, LANGUAGES, by_path
from flex_assist.repository.secrets import MASK

SOURCES = Path(__file__).parents[2] / "data" / "sources"
SYNTAX_FOLDER = Path(__file__).parents[2] / "data" / "syntax"
SYNTAX = sorted(SYNTAX_FOLDER.iterdir())
# Of each kind one place of each language's source.
EXPECTED = {
    "Stock.cs": {
        "statement": "int total = counts.GetValueOrDefault(goods, 0) + count;",
        "block": "counts[goods] = total;\n            return total;",
        "arguments": "string goods, int count", "expression": "counts[goods]",
    },
    "Stock.java": {
        "statement": "counts.put(goods, total);",
        "block": "counts.put(goods, total);\n        return total;",
        "body": "this.name = name;\n        this.open = true;",
        "arguments": 'goods, "shop"', "expression": "counts.getOrDefault(goods, 0)",
    },
    "Stock.kt": {
        "statement": "val price = priceOf(goods, name)",
        "block": "counts[goods] = total\n        return total",
        "arguments": "goods: String, count: Int", "expression": "priceOf(goods, name)",
    },
    "Stock.php": {
        "statement": "$total += $price * $count;",
        "block": "$this->counts[$goods] = $total;\n        return $total;",
        "body": "$this->open = true;\n        $this->level = self::LOW;",
        "arguments": "$goods, $stock->name", "expression": "$price * $count",
    },
    "stock.c": {
        "statement": "stock->counts[goods] = total;",
        "block": "stock->counts[goods] = total;\n    return total;",
        "body": "const char *name;\n    int counts[16];",
        "arguments": "goods, stock->name", "expression": "stock->counts[goods] + count",
    },
    "stock.cpp": {
        "statement": "counts_[goods] = total;",
        "block": "counts_[goods] = total;\n        return total;",
        "body": "T rest = count % 2;\n    return (count - rest) / 2;",
        "arguments": "goods, name_", "expression": "price_of(goods, name_)",
    },
    "stock.go": {
        "statement": "total := s.counts[goods] + count",
        "block": "s.counts[goods] = total\n\treturn total, nil",
        "body": "name   string\n\tcounts map[string]int",
        "arguments": "goods, stock.name", "expression": "s.counts[goods] + count",
    },
    "stock.js": {
        "statement": "this.counts.set(goods, total);",
        "block": "this.counts.set(goods, total);\n    return total;",
        "body": "this.name = name;\n    this.counts = new Map();",
        "arguments": "goods, stock.name", "expression": "count < LOW_LEVEL",
    },
    "stock.py": {
        "statement": "self.counts[goods] = total",
        "block": "self.counts[goods] = total\n        return total",
        "body": "self.name = name\n        self.counts: dict[str, int] = {}",
        "arguments": "goods, stock.name", "expression": "self.counts.get(goods, 0) + count",
    },
    "stock.rb": {
        "statement": "@counts[goods] = total",
        "block": "@counts[goods] = total\n      total",
        "body": "stock = new(name)\n      stock.freeze",
        "arguments": 'ArgumentError, "count #{count} is negative"',
        "expression": "@counts.fetch(goods, 0)",
    },
    "stock.rs": {
        "statement": "let price = price_of(goods, &stock.name);",
        "block": "self.counts.insert(goods.to_string(), total);\n        Ok(total)",
        "body": "name: String,\n    counts: HashMap<String, i32>,",
        "arguments": "goods, &stock.name", "expression": "price * f64::from(*count)",
    },
    "stock.sh": {
        "statement": "COUNTS[$goods]=$total",
        "block": 'COUNTS[$goods]=$total\n  echo "$total"',
        "expression": '$(price_of "$goods" "$SHOP")',
    },
    "stock.ts": {
        "statement": "this.counts.set(goods, total);",
        "block": "this.counts.set(goods, total);\n    return total;",
        "body": "const rest = count % 2;\n  return (count - rest) / 2;",
        "arguments": "goods: Goods[], shop: string", "expression": "priceOf(one.name, shop)",
    },
    "stock.tsx": {
        "statement": "const rows = props.rows.filter((row) => row.count > 0);",
        "block": 'return <b title="low">{props.name}</b>;',
        "body": "name: string;\n  count: number;",
        "arguments": "props.name, 'shop'",
        "expression": '<b title="low">{props.name}</b>',
    },
}  # fmt: skip
WHITE_SPACE = " \t\n\r\v\f"
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
    spans = draw_all((SOURCES / name).read_text(encoding="utf-8"), language, 900)
    assert {span.kind for span in spans} == set(KIND_WEIGHTS)


@pytest.mark.parametrize("path", SYNTAX, ids=lambda path: path.suffix[1:])
def test_places_along_the_tree_in_each_language(path: Path) -> None:
    language, data = by_path(path), path.read_bytes()
    assert language is not None
    found = {
        kind: {data[start:end].decode() for start, end in places}
        for kind, places in syntax.places(data, language, 1600).items()
    }
    for kind, wanted in EXPECTED[path.name].items():
        assert wanted in found[kind], (kind, found[kind])
    # What a body is made of, as far as it goes to the end, is the rest of a block.
    assert any(
        body.endswith(one) and one != body for one in found["block"] for body in found["body"]
    )
    for kind in ("statement", "block", "body"):
        assert all(one == one.strip() for one in found[kind])


def test_all_languages_have_a_source() -> None:
    assert {by_path(path) for path in SYNTAX} >= set(LANGUAGES[:14])


def test_the_drawn_kinds_follow_the_table() -> None:
    """Each kind within four standard deviations of its weight, where a text has all of them."""
    for name, language in (("stock.py", "python"), ("Stock.java", "java"), ("stock.go", "go")):
        count = 4000
        text = (SYNTAX_FOLDER / name).read_text(encoding="utf-8")
        drawn = Counter(span.kind for span in draw_all(text, language, count))
        assert drawn.total() == count
        for kind, weight in KIND_WEIGHTS.items():
            room = 4 * (weight * (1 - weight) / count) ** 0.5
            assert drawn[kind] / count == pytest.approx(weight, abs=room), (name, kind)


@pytest.mark.parametrize("path", SYNTAX, ids=lambda path: path.suffix[1:])
def test_most_spans_are_of_one_line(path: Path) -> None:
    language = by_path(path)
    assert language is not None
    text = path.read_text(encoding="utf-8")
    spans = draw_all(text, language.name, 1000)
    several = sum("\n" in text[one.start : one.end].strip() for one in spans) / len(spans)
    assert 0.1 < several < 0.35


def test_what_a_text_has_not_is_drawn_by_lines() -> None:
    text = "value = 1\n" * 40
    drawn = Counter(span.kind for span in draw_all(text, "python", 3000))
    assert not drawn.keys() & {"arguments", "expression", "block", "body"}
    wanted = sum(KIND_WEIGHTS[kind] for kind in ("rest", "arguments", "expression"))
    assert drawn["rest"] / 3000 == pytest.approx(wanted, abs=0.04)


def test_a_language_without_known_nodes_gives_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    for names in ("CONTAINERS", "ARGUMENTS", "EXPRESSIONS"):
        monkeypatch.setattr(syntax, names, ("no_such_node",))
    syntax._query.cache_clear()
    try:
        kinds = {span.kind for span in draw_all(TEXT, "python")}
        assert kinds == {"rest", "line", "lines", "random"}
    finally:
        syntax._query.cache_clear()


def test_what_stands_for_a_secret_is_in_no_span() -> None:
    text = f'key = "{MASK}"\nother = call(1)\n' * 20
    for span in draw_all(text, "python", 600):
        assert MASK not in text[max(0, span.start - 7) : span.end + 7]


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


codes = st.sampled_from(SYNTAX).flatmap(
    lambda path: st.builds(
        lambda prefix, at, letters: (
            (text := path.read_text(encoding="utf-8"))[: at % len(text)] + prefix + letters
            + text[at % len(text) :]
        ),
        st.text(max_size=20), st.integers(0, 5000), st.sampled_from(["", "é😀→", MASK, "\0"]),
    ).map(lambda text: (text, by_path(path)))
)  # fmt: skip


@example(("'00\x1f'", BY_NAME["shell"]), 1)
@given(st.one_of(codes, st.tuples(st.text(max_size=400), st.sampled_from(LANGUAGES))),
       st.integers(0, 99))  # fmt: skip
def test_before_middle_and_after_are_the_text(given_text: tuple, seed: int) -> None:
    text, language = given_text
    source, rng = SpanSource(text, language), random.Random(seed)
    for _ in range(8):
        span = source.draw(rng)
        if span is None:
            continue
        before, middle, after = (
            text[: span.start], text[span.start : span.end], text[span.end :]
        )  # fmt: skip
        assert before + middle + after == text
        assert MASK not in middle
        assert text.count(MASK) == before.count(MASK) + after.count(MASK)
        if span.kind in ("arguments", "expression", "statement", "block", "body"):
            # Along the tree a place neither begins nor ends in white space: no byte is lost. Other
            # letters that Python counts as such are parts of words to a grammar.
            assert middle == middle.strip(WHITE_SPACE) or language.name in ("c", "cpp")


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
