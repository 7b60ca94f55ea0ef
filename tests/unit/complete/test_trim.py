"""What is shown of a model's text: golden cases of several languages, and properties."""

import re
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flex_assist.complete.surroundings import Surroundings, has_windows_line_ends, several_lines
from flex_assist.complete.trim import finished_early, fit_indentation, trim
from flex_assist.language import BY_NAME

CASES: list[dict[str, Any]] = tomllib.loads(
    (Path(__file__).parents[2] / "data" / "trim_cases.toml").read_text(encoding="utf-8")
)["case"]
FRAGMENTS = (
    "a", "x = 1", "    ", "  ", "\t", "\n", "\n\n", "\r\n", "(", ")", "[", "]", "{", "}", ");",
    "):", "))", ":", ";", ",", " ", "do", "end", "fi", "else", '"', "'", "\\", "return x",
    "é", "😀",
    "#", "//", "/*", "*/", '"""', "`", "<<EOF\n", "EOF\n", "case 1:\n", "#if\n", "\t\t",
    "foo(a, b)", "}\n", "    }\n", "x = 1\n", "    return x\n", "\u2028", "\x0c", "\r",
)  # fmt: skip
languages = st.sampled_from([None, *BY_NAME])
texts = st.lists(st.sampled_from(FRAGMENTS), max_size=14).map("".join)


def around_of(marked: str, name: str = "") -> Surroundings:
    """``name`` begins with the language, if there is one."""
    before, _, after = marked.partition("|")
    language = name.partition(":")[0]
    return Surroundings(
        before=before, after=after, language=language if language in BY_NAME else None
    )


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_golden(case: dict[str, Any]) -> None:
    around = around_of(case["at"], case["name"])
    several = case.get("several", several_lines(around, knows_end=True))
    shown, notes = trim(case["text"], around, several=several, ended_by=case.get("ended_by", "end"))
    assert shown == case["shown"]
    assert sum(len(line) for line in around.masked(case["text"])) == len(case["text"])
    assert bool(notes) == (shown != case["text"].replace("\r\n", "\n"))


def test_the_cases_have_names_of_their_own() -> None:
    assert len({case["name"] for case in CASES}) == len(CASES) > 40


@given(texts, texts, texts, st.booleans(), st.sampled_from(["end", "text", "length"]), languages)
@example("x = 1\n}\n", "function f() {\n    ", "\n}\n", True, "end", None)
@example("a))", "print(max(", ")", True, "end", None)
@example("}\n}\n", "", "\n}\n", True, "end", None)
@example("a}\n", "", "}\na", False, "end", None)
@example("):\n}\n", "", ":", True, "length", None)
@example("\r\r\na", "", "", True, "end", None)
def test_the_result_is_a_part_of_the_text_and_trimming_twice_changes_nothing(
    text: str,
    before: str,
    after: str,
    knows_end: bool,
    ended_by: str,
    language: str | None,
) -> None:
    before, after = before.replace("\r\n", "\n"), after.replace("\r\n", "\n")
    around = Surroundings(before=before, after=after, language=language)
    several = several_lines(around, knows_end)
    once, _ = trim(text, around, several=several, ended_by=ended_by)
    whole, _ = fit_indentation(re.sub(r"\r+\n", "\n", text), around)
    assert whole.startswith(once)
    assert once == once.rstrip()
    assert several or "\n" not in once
    # The second time nothing was cut off by the limit.
    assert trim(once, around, several=several, ended_by="end") == (once, ())


@given(texts, texts, texts, st.booleans(), languages)
def test_an_engine_that_stops_early_shows_the_same(
    text: str, before: str, after: str, knows_end: bool, language: str | None
) -> None:
    before, after = before.replace("\r\n", "\n"), after.replace("\r\n", "\n")
    around = Surroundings(before=before, after=after, language=language)
    several = several_lines(around, knows_end)
    whole = trim(text, around, several=several, ended_by="end")[0]
    for length in range(1, len(text) + 1):
        if finished_early(text[:length], around, several):
            stopped = trim(text[:length], around, several=several, ended_by="text")[0]
            assert stopped == whole
            break


@pytest.mark.parametrize(
    ("marked", "knows_end", "several"),
    [
        ("x = |\n", True, False),
        ("|\n", True, True),
        ("|\n", False, False),
        ("    |\n", True, True),
        ("def f():|\n", False, True),
        ("def f():\n    |\n", False, True),
        ("def f():  |\n", False, True),
        ("func f() {|}", True, False),
        ("func f() {\n\t|}", True, True),
        ("func f() {\n\t|}", False, True),
        ("print(|)", True, False),
        ("|x = 1\n", True, False),
        ("    |)\n", True, True),
        ("    |),\n", True, True),
        ("todo|\n", True, False),
        ("items.each do|\n", False, True),
        ("items.undo|\n", False, False),
        ("x => |\n", False, True),
        ("", True, True),
        ("    |\n        b()\n", True, False),
        ("    |\n\n        b()\n", True, True),
        ("    |\n    b()\n", True, True),
        ("def f(|\n    return 1\n", True, False),
        ("|\n    b()\n", True, True),
    ],
)
def test_where_several_lines_may_come(marked: str, knows_end: bool, several: bool) -> None:
    assert several_lines(around_of(marked), knows_end) is several


def test_early_end_of_a_single_line() -> None:
    around = around_of("x = |")
    assert not finished_early("1", around, several=False)
    assert finished_early("1\n", around, several=False)
    around = around_of("print(|)")
    assert not finished_early("f(x)", around, several=False)
    assert finished_early("f(x))", around, several=False)
    assert not finished_early("f('x))", around, several=False)
    assert not finished_early("a[0] + a[1] + a[2] + a[3] + a[4] ", around, several=False)
    assert finished_early("a[0] + a[1] + a[2] + a[3] + a[4] + a[5] + ", around, several=False)


def test_a_line_that_may_still_grow_is_no_repetition() -> None:
    around = around_of("def f():\n    |")
    text = "x\n    x\n    x\n    x"
    assert not finished_early(text, around, several=True)
    assert finished_early(text + "\n", around, several=True)


def test_the_notes_say_what_was_done() -> None:
    around = around_of("def f():\n    |")
    notes = trim("x\n    y\nz", around, several=True, ended_by="length")[1]
    assert notes == ("dropped an unfinished line",)
    notes = trim("x\n    y\nz\n", around, several=True, ended_by="end")[1]
    assert notes == ("cut at the end of the block",)


def test_many_brackets_take_no_time() -> None:
    text = "(" * 20_000 + ")" * 20_000
    around = Surroundings(before="[" * 20_000, after="]" * 20_000)
    assert len(trim(text, around, several=False, ended_by="end")[0]) <= len(text)


@pytest.mark.parametrize(
    ("before", "after", "windows"),
    [
        ("a\r\nb", "", True), ("a\nb", "\r\n", False), ("a\r\nb\nc", "\r\n", False),
        ("a\nb\r\nc", "\n", True), ("a", "\r\n", True), ("a", "\n", False), ("", "", False),
        ("\n", "\r\n", False), ("a\r", "\n", False), ("a", "\n\r\n", False),
    ],
)  # fmt: skip
def test_the_nearest_line_end_is_that_of_the_answer(before: str, after: str, windows: bool) -> None:
    assert has_windows_line_ends(before, after) is windows


def test_every_language_has_golden_cases_with_a_closed_block_or_bracket() -> None:
    named = [case["name"].partition(":")[0] for case in CASES]
    assert {name for name in BY_NAME if named.count(name) < 3} == set()


def test_a_long_file_costs_no_more_than_a_short_one() -> None:
    """What is asked at each token must not look through all of a file."""
    line = "def f(x):\n    return x\n\n\n"
    text = "    if x:\n        return x\n    return f(x - 1)\n"

    def seconds(lines: int) -> float:
        around = Surroundings(
            before=line * lines + "def g(x):\n", after="\n\n" + line * lines, language="python"
        )
        finished_early(text, around, True)
        started = time.perf_counter()
        for end in range(1, len(text), 2):
            finished_early(text[:end], around, True)
        return time.perf_counter() - started

    assert seconds(400_000) < 5 * seconds(2_000) + 0.01
