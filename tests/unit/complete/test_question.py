"""What is asked once a suggestion is accepted."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from flex_assist.adapters.router import Route
from flex_assist.complete.question import Question
from flex_assist.complete.request import CompletionRequest
from flex_assist.complete.surroundings import Surroundings
from flex_assist.engine.protocol import Weights
from flex_assist.models.fim import FimTokens

FIM = FimTokens(suffix_id=1, prefix_id=2, middle_id=3, end_id=4)


def at(before: str, after: str = "", stops: tuple[str, ...] = (), fim: bool = False) -> Question:
    return Question(
        request=CompletionRequest(before=before, after=after),
        around=Surroundings(before=before, after=after), language=None,
        route=Route(name="base", reason="r", fim=FIM if fim else None),
        weights=Weights(model=Path("/m")), path=None, stops=stops, crlf=False, place=None,
        started=0,
    )  # fmt: skip


def test_behind_what_was_accepted() -> None:
    question = at("x = ", "\ny", ('"',))
    following = question.behind("f(1)")
    assert following.around == Surroundings(before="x = f(1)", after="\ny")
    assert (following.stops, following.stop_texts) == (('"',), ('"', "\n"))


@pytest.mark.parametrize(
    ("before", "after", "line"),
    [
        ("x = 1", "\ny", "\n"),
        ("    x = 1", " \ny", "\n    "),
        ("\tx()", "", "\n\t"),
        ("def f():", "\n", "\n    "),
        ("class A:\n  x = 1\n\n  def f():", "\n", "\n    "),
        ("func f() {\n\treturn\n}\nfunc g() {", "\n}", "\n\t"),
        ("x = 1", ")", None),
        ("x = 1\n", "", None),
        ("x = 1\n    ", "", None),
    ],
)
def test_the_next_line_is_indented_as_editors_do_it(
    before: str, after: str, line: str | None
) -> None:
    following = at(before, after).next_line()
    if line is None:
        assert following is None
    else:
        assert following is not None
        assert following.around == Surroundings(before=before + line, after=after)


def test_a_string_of_one_line_has_no_next_line() -> None:
    assert at("SELECT 1", "", ('"', "\n")).next_line() is None


def test_how_many_lines_decide_where_it_ends() -> None:
    assert at("x = ", fim=True).stop_texts == ("\n",)
    assert at("    ", fim=True).stop_texts == ()
    assert at("    ").stop_texts == ("\n",)
    assert at("    ", stops=("\n",), fim=True).stop_texts == ("\n",)


@pytest.mark.parametrize(
    ("before", "text", "beginning"),
    [
        ("    ", "x = f(1)\n    retu", "x = f(1)"),
        ("    ", "x = f(1)\n", "x = f(1)"),
        ("    ", "\n    x", ""),
        ("    ", "return items", ""),
        ("    ", "return items[0", "return items["),
        ("    ", "return items, ", "return items, "),
        ("    ", "a, b", ""),
        ("x = ", "call(items, oth", "call(items, "),
    ],
)
def test_a_beginning_has_whole_lines_or_words(before: str, text: str, beginning: str) -> None:
    assert at(before, fim=True).beginning(text) == beginning


def due_after(question: Question, first_answer_ms: float | None) -> Question:
    return replace(question, request=replace(question.request, first_answer_ms=first_answer_ms))


def test_a_beginning_is_due_after_its_time() -> None:
    question = replace(due_after(at("    ", fim=True), 60_000), started=time.perf_counter())
    assert not question.is_due("x = f(1)\n")
    late = replace(question, started=time.perf_counter() - 61)
    assert late.is_due("x = f(1)\n")
    assert not late.is_due("x")
    assert not due_after(late, None).is_due("x = f(1)\n")


def test_what_nobody_waits_for_is_written_for_a_while_only() -> None:
    question = due_after(at("    ", fim=True), 400)
    assert question.is_enough("x = f(1)\ny = 2\n", 500)
    assert not question.is_enough("x = f(1)\ny = 2\n", 300)
    assert not question.is_enough("x", 500)
    assert not due_after(question, None).is_enough("x = f(1)\n", 500)
    # Not before there is more than there was.
    assert not question.is_enough("x = f(1)\ny", 500, begun="x = f(1)")
    assert question.is_enough("x = f(1)\ny = 2\n", 500, begun="x = f(1)")


def test_ahead_the_first_line_is_enough() -> None:
    question = due_after(at("    ", fim=True), 400)
    assert question.is_enough_ahead("x = f(1)\n", 10)
    assert not question.is_enough_ahead("\n    x = f(1)", 10)
    assert not question.is_enough_ahead("x = f(1, 2, 3", 300)
    assert question.is_enough_ahead("x = f(1, 2, 3", 500)
    assert not due_after(question, None).is_enough_ahead("x = f(1)\n", 500)
