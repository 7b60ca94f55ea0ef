"""Notebooks: their code cells, by language, and nothing else."""

import json
from typing import Any

import pytest

from flex_assist.repository import notebooks
from flex_assist.repository.documents import Objection
from flex_assist.repository.notebooks import parts

PNG = "iVBORw0KGgoAAAANSUhEUgAA" * 100


def cell(source: str | list[str], **more: Any) -> dict[str, Any]:
    output = {"output_type": "display_data", "data": {"image/png": PNG}, "metadata": {}}
    return {
        "cell_type": "code", "source": source, "outputs": [output], "metadata": {},
        "execution_count": 1, **more,
    }  # fmt: skip


def notebook(*cells: dict[str, Any], **metadata: Any) -> str:
    return json.dumps(
        {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}, indent=1
    )


PYTHON: dict[str, Any] = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python", "version": "3.12.1", "file_extension": ".py"},
}


def kernel(name: str, language: str | None = None) -> dict[str, Any]:
    spec = {"name": name, "display_name": name}
    return {"kernelspec": spec if language is None else {**spec, "language": language}}


def test_code_cells_alone() -> None:
    text = notebook(
        {"cell_type": "markdown", "metadata": {}, "source": ["# Title\n", "`not_code()`"]},
        cell(["import math\n", "\n", "def area(r):\n", "    return math.pi * r**2\n"]),
        {"cell_type": "raw", "metadata": {}, "source": "raw()"},
        cell(""),
        cell("area(2)"),
        **PYTHON,
    )
    assert parts(text) == [
        ("python", "import math\n\ndef area(r):\n    return math.pi * r**2"),
        ("python", "area(2)"),
    ]


def test_the_third_format() -> None:
    cells = [
        {"cell_type": "heading", "level": 1, "source": "Title"},
        {"cell_type": "code", "input": ["x = 1\r\n", "y = 2"], "language": "python", "outputs": []},
        {"cell_type": "code", "input": "puts 1", "language": "ruby", "outputs": []},
    ]
    text = json.dumps({"metadata": {"name": ""}, "nbformat": 3, "worksheets": [{"cells": cells}]})
    assert parts(text) == [("python", "x = 1\ny = 2"), ("ruby", "puts 1")]


@pytest.mark.parametrize(
    ("metadata", "language"),
    [
        (PYTHON, "python"), ({}, "python"), (kernel("python3"), "python"),
        (kernel("x", "C++17"), "cpp"), (kernel("x", "C#"), "csharp"),
        (kernel("bash", "bash"), "shell"), (kernel("deno", "typescript"), "typescript"),
        (kernel("rust", "rust"), "rust"), (kernel("x", "Kotlin"), "kotlin"),
        ({"language_info": {"name": "ipython"}}, "python"), ({"kernelspec": None}, "python"),
    ],
)  # fmt: skip
def test_the_language_of_the_kernel(metadata: dict[str, Any], language: str) -> None:
    assert parts(notebook(cell("x(1)"), **metadata)) == [(language, "x(1)")]


def test_a_kernel_that_we_do_not_know() -> None:
    assert parts(notebook(cell("x <- 1"), **kernel("ir", "R"))) == Objection(
        rule="not-source", value="R"
    )
    # A file's words are shown only where they look like a name.
    odd = parts(notebook(cell("x <- 1"), **kernel("x", "\x1b[31m")))
    assert odd == Objection(rule="not-source")


def test_cells_in_other_languages() -> None:
    text = notebook(
        cell("%%bash\nset -e\nls"),
        cell("\n%%time\ntotal = sum(x)"),
        cell("%%script sh --no-raise\necho $HOME"),
        cell("%%javascript\nalert(1)"),
        cell("%%html\n<style>p { top: 0 }</style><p>text</p><script>go()</script>"),
        cell("%%writefile src/tool.go\npackage main"),
        cell("%%writefile notes.txt\nnothing"),
        cell("%%sql\nselect 1"),
        cell("%%latex\n\\alpha"),
        cell("echo", metadata={"vscode": {"languageId": "shellscript"}}),
        cell("# text", metadata={"vscode": {"languageId": "markdown"}}),
        **PYTHON,
    )
    assert parts(text) == [
        ("shell", "set -e\nls"), ("python", "total = sum(x)"), ("shell", "echo $HOME"),
        ("javascript", "alert(1)"), ("css", "p { top: 0 }"), ("javascript", "go()"),
        ("go", "package main"), ("shell", "echo"),
    ]  # fmt: skip


MAGICS = '''\
%matplotlib inline
%load_ext autoreload
!pip install \\
    "numpy>=1"
files = !ls *.csv
took = %timeit -o f(1)
a, b = !seq 2
?print
np.mean?
np.mean??
%%again
import numpy as np  # !kept
text = "%s" % (
    1
    %np.size
)
sql = """
%kept
!kept
kept?
"""
if np:
    %time f(1)
    x = 1 % 2
y = x \\
    != 1
s = 'it"s' + "(" # (
%last
'''


def test_lines_that_are_no_python_are_left_out() -> None:
    ((_, code),) = parts(notebook(cell(MAGICS), **PYTHON))  # type: ignore[misc]
    assert code == (
        "import numpy as np  # !kept\n"
        'text = "%s" % (\n    1\n    %np.size\n)\n'
        'sql = """\n%kept\n!kept\nkept?\n"""\n'
        "if np:\n    x = 1 % 2\ny = x \\\n    != 1\n"
        """s = 'it"s' + "(" # ("""
    )
    # Other languages have no magics.
    ruby = notebook(cell("!ready\n%w[a b]\nempty?"), **kernel("ruby", "ruby"))
    assert parts(ruby) == [("ruby", "!ready\n%w[a b]\nempty?")]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"cells": [ {"cell_type": "code", "source": ["x = 1"', "not JSON"), ("", "not JSON"),
        ("[]", "no cells"), ("{}", "no cells"), ('{"cells": 5}', "no cells"),
        ('{"worksheets": [5, {"cells": {}}]}', "no cells"), ('"text"', "no cells"),
        ("[" * 100_000, "nested too deeply"), ('{"cells":' * 50_000, "nested too deeply"),
        ("1" * 10_000, "not JSON"),
    ],
)  # fmt: skip
def test_what_is_no_notebook(text: str, value: str) -> None:
    assert parts(text) == Objection(rule="notebook", value=value)


def test_too_many_values_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebooks, "MAX_JSON_VALUES", 20)
    assert parts(notebook(cell("x = 1"))) == [("python", "x = 1")]
    full = parts(notebook(cell("x = 1"), cell("y = 2")))
    assert full == Objection(rule="notebook", value="more than 20 values")


def test_without_code() -> None:
    empty = Objection(rule="empty", value=0)
    assert parts(notebook()) == empty
    assert parts(notebook(cell(" \n"), {"cell_type": "markdown", "source": "# x"})) == empty
    broken: list[Any] = [None, 5, {"cell_type": "code"}, {"cell_type": "code", "source": {"a": 1}}]
    assert parts(notebook(*broken)) == empty
    # Magics alone leave nothing.
    assert parts(notebook(cell("%pylab"))) == Objection(rule="not-source", value="python")


def test_what_cannot_be_stored_is_replaced() -> None:
    text = '{"cells": [{"cell_type": "code", "source": "a = \'\\ud800\\u0000\\ud83d\\ude00\'"}]}'
    assert parts(text) == [("python", "a = '��😀'")]


def test_the_limit_counts_the_cells() -> None:
    text = notebook(cell("x = 'é'"), cell("y = 2"), **PYTHON)
    assert isinstance(parts(text, 13), list)
    assert parts(text, 12) == Objection(rule="too-large", value=13)
