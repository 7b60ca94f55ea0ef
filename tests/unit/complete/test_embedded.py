"""Code inside of strings and of Markdown: where it is found, and that finding it takes no time."""

import time

import pytest

from flex_assist.complete import embedded
from flex_assist.complete.region import Region, at_cursor

# The cursor is at the bar.
SQL_IN_PYTHON = 'rows = run("""\n    SELECT name\n    FROM | users\n    """)\nprint(rows)\n'
FENCED = "Text\n\n```py title='x'\nimport os\nos.|\n```\n\nMore text\n\n```sh\nls\n```\n"


def at_bar(text: str, *, path: str | None = None, language_id: str | None = None) -> Region:
    before, after = text.split("|")
    return at_cursor(before, after, path=path, language_id=language_id)


def name(region: Region | None) -> str | None:
    return region.language.name if region and region.language else None


def test_sql_in_a_python_string_is_shown_alone() -> None:
    region = at_bar(SQL_IN_PYTHON, language_id="python")
    assert (name(region), region.stops) == ("sql", ('"""',))
    assert (region.before, region.after) == ("    SELECT name\n    FROM ", " users\n    ")
    assert name(region.outer) == "python"
    assert region.outer.before + "|" + region.outer.after == SQL_IN_PYTHON


@pytest.mark.parametrize(
    ("language_id", "text", "language"),
    [
        ("python", "q = 'SELECT |'\n", "sql"),
        ("python", 'q = "insert into t (|) values (1)"', "sql"),
        ("python", 'q = f"SELECT {table}.| FROM t"', "sql"),
        ("python", 'q = f"SELECT {tab|le} FROM t"', "python"),
        ("python", 'q = f"SELECT {{x}} |"', "sql"),
        ("python", "q = 'Select a file |'", "python"),
        ("python", "q = 'select a, |  from t'", "sql"),
        ("python", "# 'SELECT |\nx = 1", "python"),
        ("python", "q = 'SELECT 1'\nx = |", "python"),
        ("python", "q = 'SELECT 1\nx = |", "python"),
        ("python", "q = r'\\' + 'SELECT |'", "python"),
        ("python", "q = 'it\\'s' + \"SELECT |\"", "sql"),
        ("python", "d = '''don't'''; q = 'WITH a AS (SELECT |'", "sql"),
        ("python", '"""Says \'SELECT |\'."""', "python"),
        ("typescript", "const q = sql`select |`", "sql"),
        ("typescript", "const q = sql<Row[]>`select |`", "sql"),
        ("typescript", "const q = db.sql`x = ${f(|)}`", "typescript"),
        ("javascript", "const A = styled.div`color: |`", "css"),
        ("javascript", "const A = styled(B)`color: |`", "css"),
        ("javascript", "const r = /[\"'`]/;\nconst q = `SELECT |`", "sql"),
        ("javascript", "const a = b / c; const q = 'SELECT |'", "sql"),
        ("typescriptreact", "<p>don't</p>;\nconst n = |", "tsx"),
        ("javascript", "// don't\nconst q = |", "javascript"),
        ("java", 'String q = """\n  SELECT |\n  """;', "sql"),
        ("java", 'char c = \'"\'; String q = "SELECT |";', "sql"),
        ("kotlin", 'val q = """DELETE FROM |"""', "sql"),
        ("go", "q := `\nUPDATE t SET |`", "sql"),
        ("go", "r := '`'; q := |", "go"),
        ("go", 'p := `\\`; q := "SELECT |"', "sql"),
        ("rust", 'let q = "SELECT |";', "rust"),
        ("sql", "SELECT '|'", "sql"),
    ],
)
def test_what_a_string_holds(language_id: str, text: str, language: str) -> None:
    assert name(at_bar(text, language_id=language_id)) == language


def test_a_string_of_one_line_ends_with_it() -> None:
    region = at_bar("q = 'SELECT |\nx = 1\n", language_id="python")
    assert (region.before, region.after, region.stops) == ("SELECT ", "", ("'", "\n"))
    template = at_bar("q = `SELECT |\nx = 1\n", language_id="javascript")
    assert (template.after, template.stops) == ("", ("`",))


def test_fenced_code_is_a_document_of_its_own() -> None:
    region = at_bar(FENCED, language_id="markdown")
    assert (name(region), region.before, region.after) == ("python", "import os\nos.", "\n")
    assert region.outer is None


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Te|xt\n```py\nx\n```\n", None),
        ("```py|\nx\n```\n", None),
        ("```py\nx\n```|\n", None),
        ("```py\nx\n```\n|", None),
        ("```py\nx|", "python"),
        ("```\nx|\n```\n", None),
        ("```{.rb .numbered}\nx|\n```\n", "ruby"),
        ("```C++\nx|\n", "cpp"),
        ("```golang\nx|\n", "go"),
        ("```nothing\nx|\n", None),
        ("~~~js\n```\nx|\n~~~\n", "javascript"),
        ("````md\n```py\nx|\n```\n````\n", None),
        ("- a\n\n    ```ts\n    x|\n    ```\n", "typescript"),
        ("``` a `b` ```\nx|\n", None),
        ("```py\nq = 'SELECT |'\n```\n", "sql"),
    ],
)
def test_fences(text: str, language: str | None) -> None:
    assert name(at_bar(text, path="README.md")) == language


def test_a_fence_that_is_closed_on_the_cursors_line() -> None:
    region = at_bar("```py\n|```\nafter\n", language_id="markdown")
    assert (name(region), region.before, region.after) == ("python", "", "")


@pytest.mark.parametrize(
    ("text", "path", "language"),
    [
        ("#!/usr/bin/env python3\nx|", "tool", "python"),
        ("#!/bin/sh\nx|", None, "shell"),
        ("#!/bin/s|h\n", None, "shell"),
        ("#!/bin/sh\nx|", "a.rb", "ruby"),
        ("#!/usr/bin/perl\nx|", "tool", None),
        ("x|", "README.md", None),
    ],
)
def test_a_file_without_an_ending_says_it_in_its_first_line(
    text: str, path: str | None, language: str | None
) -> None:
    assert name(at_bar(text, path=path, language_id="plaintext")) == language


HOSTILE = {
    "quotes": "\"'" * 60_000, "brackets": "([{" * 70_000, "templates": "`${" * 40_000,
    "slashes": "=/[" * 40_000, "comments": "/*" * 60_000, "fences": "```\n" * 200_000,
    "long": "x = 'SELECT \\" + "a" * 10_000_000, "selects": "'select " * 15_000,
    "with": "'with a (" * 14_000, "spaces": "'" + " " * 120_000, "dashes": "'" + "--\n" * 40_000,
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("language_id", ["python", "typescript", "go", "markdown"])
def test_hostile_texts_take_no_time(kind: str, language_id: str) -> None:
    text = HOSTILE[kind]
    for before, after in ((text, ""), ("x = '", text), ("```py\nx = '", text)):
        started_s = time.perf_counter()
        at_cursor(before, after, path=None, language_id=language_id)
        assert time.perf_counter() - started_s < 0.5


def test_long_texts_are_not_looked_through() -> None:
    code = "x = 1\n" * (embedded.MOST_CHARACTERS // 6 + 1)
    assert name(at_bar(code + "q = 'SELECT |'", language_id="python")) == "python"
