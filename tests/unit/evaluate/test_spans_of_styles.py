"""Styles: what the grammar does not know of SCSS and Less costs spans, and nothing else."""

import random

import pytest

from flex_assist.evaluate.spans import SpanSource
from flex_assist.language import BY_NAME

CSS = """\
/* a card */
.card { color: red; margin: 0 auto; &:hover { top: 1px; } }
@media (max-width: 40rem) { .card { background: rgb(1, 2, 3); } }
"""
SCSS = """\
// a card
@use "sass:math";
$gap: 4px !default;
@mixin card($pad: $gap, $edge: 2) {
  padding: $pad;
  &__title { color: darken($edge, 10%); }
}
.a { @include card(3px); .b & { width: math.div(10px, 3); } }
.plain { color: red; margin: 0; }
"""
LESS = """\
@gap: 4px;
.card(@pad: @gap) when (default()) { padding: @pad; }
.a { .card(3px); color: ~"x"; .b { width: (@gap * 2); } }
.plain { color: red; margin: 0; }
"""


@pytest.mark.parametrize("text", [CSS, SCSS, LESS], ids=["css", "scss", "less"])
def test_spans_of_styles(text: str) -> None:
    source, rng = SpanSource(text, BY_NAME["css"]), random.Random(0)
    spans = [span for _ in range(300) if (span := source.draw(rng))]
    bodies = {text[span.start : span.end] for span in spans if span.kind == "body"}
    assert "color: red; margin: 0;" in bodies or "top: 1px;" in bodies
    # A body is whole: its brackets are in pairs.
    assert all(body.count("{") == body.count("}") for body in bodies)
    assert {"rest", "line", "lines", "random"} <= {span.kind for span in spans}


def test_spans_of_sql() -> None:
    text = "-- all\nCREATE TABLE t (\n  a INTEGER\n);\n\nSELECT a\nFROM t\nWHERE a > 1;\n"
    source, rng = SpanSource(text, BY_NAME["sql"]), random.Random(0)
    spans = [span for _ in range(300) if (span := source.draw(rng))]
    statements = {text[span.start : span.end] for span in spans if span.kind == "statement"}
    assert "SELECT a\nFROM t\nWHERE a > 1;" in statements
    assert "a > 1" in {text[span.start : span.end] for span in spans if span.kind == "expression"}
