"""What a line in the input means, and what is being completed in it."""

import pytest

from flex_tui.commands import COMMANDS, Invocation, fault_of, parse
from flex_tui.completion import Typed, choices, file_reference, typed_at


@pytest.mark.parametrize(
    ("text", "invocation"),
    [
        ("/new", Invocation(name="new", argument="")),
        ("  /export my file.md ", Invocation(name="export", argument="my file.md")),
        ("/adapter\tpython", Invocation(name="adapter", argument="python")),
        ("/nonsense", Invocation(name="nonsense", argument="")),
        ("/usr/bin/env fails", None),
        ("what does /new do?", None),
        ("/", None),
        ("/new\nline", None),
        ("", None),
    ],
)
def test_commands_are_told_from_questions(text: str, invocation: Invocation | None) -> None:
    assert parse(text) == invocation


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("/new", None),
        ("/history", None),
        ("/history words", None),
        ("/adapter none", None),
        ("/adapter", "/adapter needs more: /adapter NAME|auto|none"),
        ("/new now", "/new takes nothing more"),
    ],
)
def test_faults_of_commands(text: str, fault: str | None) -> None:
    invocation = parse(text)
    assert invocation is not None
    assert fault_of(invocation) == fault


def test_an_unknown_command_names_those_there_are() -> None:
    fault = fault_of(Invocation(name="nope", argument=""))
    assert fault is not None
    for command in COMMANDS:
        assert f"/{command.name}" in fault


@pytest.mark.parametrize(
    ("before", "typed"),
    [
        ("see @src/ap", Typed(kind="file", text="src/ap", length=7)),
        ("@", Typed(kind="file", text="", length=1)),
        ('see @"my fi', Typed(kind="file", text="my fi", length=7)),
        ("two\nlines @x", Typed(kind="file", text="x", length=2)),
        ("bob@example", None),
        ("@app.py done", None),
        ("@app.py:10", None),
        ("`@app", Typed(kind="file", text="app", length=4)),
        ("/", Typed(kind="command", text="", length=1)),
        ("/hi", Typed(kind="command", text="hi", length=3)),
        ("/adapter py", Typed(kind="adapter", text="py", length=2)),
        ("/theme ", Typed(kind="theme", text="", length=0)),
        ("/export fi", None),
        ("plain", None),
    ],
)
def test_what_is_completed_at_the_cursor(before: str, typed: Typed | None) -> None:
    assert typed_at(before) == typed


@pytest.mark.parametrize(
    ("path", "written"),
    [
        ("src/app.py", "@src/app.py"),
        ("my file.py", '@"my file.py"'),
        ("a:b.py", '@"a:b.py"'),
        ("odd.", '@"odd."'),
    ],
)
def test_paths_are_written_so_that_they_are_read_again(path: str, written: str) -> None:
    from flex_assist.chat.attachments import references

    assert file_reference(path) == written
    assert [reference.path for reference in references(f"see {written} please")] == [path]


def test_beginnings_come_first() -> None:
    assert choices("th", ["python", "theme", "none"]) == ["theme", "python"]
