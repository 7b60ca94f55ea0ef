"""Questions about a repository: where their texts come from."""

from pathlib import Path

import pytest

from flex_assist.chat.window import Exchange
from flex_assist.engine.protocol import ModelFacts, TextPiece
from flex_assist.language import by_path
from flex_assist.repository.documents import Document
from flex_assist.repository.history import Change, Commit
from flex_trainer.dialogues import Dialogues
from flex_trainer.instructions import Function, Instructions, change_of, functions

SOURCES = Path(__file__).parents[2] / "data" / "syntax"
# A function of each, its first line, and a line of its comment.
FUNCTIONS = {
    "Stock.cs": ("Add", 21, "/// <summary>Put so many of them on the shelf.</summary>"),
    "Stock.java": ("add", 19, "/** Put so many of them on the shelf. */"),
    "Stock.kt": ("add", 12, "/** Put so many of them on the shelf. */"),
    "Stock.php": ("add", 21, "/** Put so many of them on the shelf. */"),
    "stock.c": ("worth", 29, "/* What all goods cost together. */"),
    "stock.cpp": ("add", 17, "/// Put so many of them on the shelf."),
    "stock.go": ("Worth", 32, "// Worth is what all goods cost together."),
    "stock.js": ("worth", 24, "/** What all goods cost together. */"),
    "stock.py": ("add", 15, '"""Put so many of them on the shelf."""'),
    "stock.rb": ("worth", 32, "# What all goods cost together."),
    "stock.rs": ("worth", 34, "/// What all goods cost together."),
    "stock.sh": ("add_goods", 10, "# Put so many of them on the shelf."),
    "stock.ts": ("worth", 28, "/** What all goods cost together. */"),
    "stock.tsx": ("Row", 9, "/** A line of the list. */"),
}
CONTEXT = ModelFacts(
    architecture="llama", context_tokens=2048, vocabulary=99, fim_ids=None, end_ids=(0, 1),
    bos_id=None, chat_template="{% for m in messages %}[{{ m.content }}]{% endfor %}",
)  # fmt: skip


def encode(pieces: list[TextPiece]) -> list[list[int]]:
    return [[ord(letter) for letter in piece.text] for piece in pieces]


def document(path: str, text: str) -> Document:
    language = by_path(path)
    assert language is not None
    return Document(
        path=path, language=language.name, text=text, sha256="", is_test=False, cluster=0
    )


def one(name: str) -> Function:
    language = by_path(name)
    assert language is not None
    found = functions((SOURCES / name).read_text(encoding="utf-8"), language)
    wanted = FUNCTIONS[name][0]
    return next(function for function in found if function.name == wanted)


def instructions(documents: list[Document], commits: tuple[Commit, ...] = ()) -> Instructions:
    return Instructions(documents, commits, Dialogues(CONTEXT, encode), most_tokens=2000, seed=0)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_with_its_comment(name: str) -> None:
    function, (_, first_line, comment) = one(name), FUNCTIONS[name]
    assert function.first_line == first_line
    assert function.comment == comment
    assert comment not in function.code
    assert function.code.startswith(function.signature.rstrip("{").rstrip())
    assert "total" in function.code or name == "stock.tsx"
    # Nothing of the text's own indentation is left, and its own is kept.
    lines = function.code.split("\n")
    assert not lines[0][0].isspace()
    assert not lines[-1][0].isspace() or name == "stock.py"
    assert any(line.startswith((" ", "\t")) for line in lines)


def test_code_without_its_docstring_is_the_code() -> None:
    text = 'class A:\n    def f(self) -> int:\n        """Says so.\n\n        And more.\n'
    text += '        """\n\n'
    text += "        x = 1\n\n        return x\n"
    language = by_path("a.py")
    assert language is not None
    (function,) = functions(text, language)
    assert function.code == "def f(self) -> int:\n    x = 1\n\n    return x"
    assert function.comment == '"""Says so.\n\nAnd more.\n"""'
    assert function.signature == "def f(self) -> int:"


@pytest.mark.parametrize(
    "text",
    [
        "def f(a):\n    return [a, a, a, a, a, a, a]\n",  # No comment.
        "# About the next.\n\ndef f(a):\n    x = [a, a, a, a]\n    return x, x, x\n",  # Not near.
        '"""Of the module."""\n\ndef f(a):\n    x = [a, a, a, a]\n    return x, x, x\n',
        'def f():\n    """Only says what it would do."""\n',
    ],
)
def test_what_has_no_comment_of_its_own_is_not_asked_for(text: str) -> None:
    language = by_path("a.py")
    assert language is not None
    assert functions(text, language) == []


def test_where_a_name_is_defined_is_asked_where_one_file_defines_it() -> None:
    both = "def shared_name(a):\n    return a\n"
    documents = [
        document("a.py", both + "def only_here(a):\n    return a\n"),
        document("b.py", both),
    ]
    asked = {exchange.question for exchange in instructions(documents).exchanges(0)}
    assert asked == {"Where is `only_here` defined?"}


def test_a_commit_becomes_a_question_for_its_diff() -> None:
    change = Change(path="a.py", first_line=3, lines=(" x = 1", "-y = 2", "+y = 3"))
    found = change_of(Commit(message="Three it is", changes=(change,)), {"a.py": "python"})
    assert found is not None
    assert found.question.startswith("Three it is\n")
    (attachment,) = found.attachments
    assert (attachment.label, attachment.text) == ("a.py:3-4", "x = 1\ny = 2")
    assert found.answer == "```diff\n--- a.py:3\n x = 1\n-y = 2\n+y = 3\n```"


def test_changes_of_other_files_are_not_shown() -> None:
    changes = tuple(
        Change(path=path, first_line=1, lines=("+secret_of_" + path[0],))
        for path in ("a.py", "held.py")
    )
    commit = Commit(message="both of the files", changes=changes)
    found = change_of(commit, {"a.py": "python"})
    assert found is not None
    assert "secret_of_a" in str(found)
    assert "secret_of_h" not in str(found)
    assert change_of(commit, {"c.py": "python"}) is None


def test_the_same_seed_asks_the_same_whatever_the_order() -> None:
    documents = [document(name, (SOURCES / name).read_text(encoding="utf-8")) for name in FUNCTIONS]
    change = Change(path="stock.py", first_line=1, lines=("+x",))
    commits = tuple(Commit(message=f"change {n}", changes=(change,)) for n in range(3))

    def asked(order: list[Document], epoch: int) -> list[Exchange]:
        return list(instructions(order, commits).exchanges(epoch))

    wanted = asked(documents, 0)
    assert wanted == asked(documents[::-1], 0)
    assert wanted != asked(documents, 1)
    assert sum(exchange.question.startswith("change ") for exchange in wanted) == 3
    kinds = {exchange.question.split()[0] for exchange in wanted + asked(documents, 1)}
    assert kinds == {"Write", "Where", "change"}


def test_a_model_without_a_template_is_asked_nothing() -> None:
    facts = ModelFacts(
        architecture="llama", context_tokens=2048, vocabulary=99, fim_ids=None, end_ids=(0,),
        bos_id=None, chat_template=None,
    )  # fmt: skip
    documents = [document("stock.py", (SOURCES / "stock.py").read_text())]
    none = Instructions(documents, (), Dialogues(facts, encode), most_tokens=2000, seed=0)
    assert list(none.exchanges(0))
    assert list(none.samples(0)) == []


def test_what_is_longer_than_a_row_is_left_out() -> None:
    documents = [document(name, (SOURCES / name).read_text(encoding="utf-8")) for name in FUNCTIONS]
    lengths = [len(sample.tokens) for sample in instructions(documents).samples(0)]
    limit = sorted(lengths)[len(lengths) // 2]
    short = Instructions(documents, (), Dialogues(CONTEXT, encode), most_tokens=limit, seed=0)
    assert [len(sample.tokens) for sample in short.samples(0)] == [
        length for length in lengths if length <= limit
    ]
