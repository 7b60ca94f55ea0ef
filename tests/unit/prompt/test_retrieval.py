"""Pieces of other files: which are found, and that they stay while a line is typed."""

import logging
import random
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flex_assist.prompt.retrieval import (
    CHUNK_LINES,
    DEFINITION_LINES,
    MOST_DEFINITIONS,
    MOST_PLACES,
    Chunk,
    RepositoryIndex,
    words,
)


@dataclass(frozen=True)
class File:
    path: str
    language: str
    text: str


FETCH = "return database.fetch"
USERS = f"def load_user(user_id):\n    {FETCH}(user_id)\n"
ORDERS = f"def load_order(order_id):\n    {FETCH}(order_id)\n"
SCRIPT = "function loadUser(userId: string) {\n  return fetch(userId)\n}\n"
FILES = [
    File("app/users.py", "python", USERS),
    File("app/orders.py", "python", ORDERS),
    File("web/users.ts", "typescript", SCRIPT),
    File("app/empty.py", "python", "\n\n   \n"),
]


@pytest.fixture(scope="module")
def index() -> RepositoryIndex:
    return RepositoryIndex(FILES)


def find(index: RepositoryIndex, before: str, after: str = "", **changes: object) -> list[Chunk]:
    named = {"path": "app/new.py", "language": "python", "count": 3, **changes}
    return index.search(before, after, **named)  # type: ignore[arg-type]


def test_the_most_alike_comes_first(index: RepositoryIndex) -> None:
    found = find(index, "order = load_order(order_id)\n")
    assert [chunk.path for chunk in found] == ["app/orders.py", "app/users.py"]
    assert found[0].first_line == 1
    assert found[0].score > found[1].score > 0
    assert [chunk.why for chunk in found] == ["defines load_order", "alike"]
    assert found[0].text == FILES[1].text.strip("\n")


def test_nothing_comes_from_the_file_itself(index: RepositoryIndex) -> None:
    found = find(index, "order = load_order(order_id)\n", path="app/orders.py")
    assert [chunk.path for chunk in found] == ["app/users.py"]


def test_only_the_language_asked_for(index: RepositoryIndex) -> None:
    text = "const user = loadUser(userId)\n"
    assert {chunk.path for chunk in find(index, text, language="typescript")} == {"web/users.ts"}
    assert "web/users.ts" in {chunk.path for chunk in find(index, text, language=None)}
    assert find(index, text, language="rust") == []


def test_parts_of_names_count(index: RepositoryIndex) -> None:
    assert find(index, "orderBook = 1\n")[0].path == "app/orders.py"


@pytest.mark.parametrize("count", [0, -1])
def test_none_are_found_where_none_are_wanted(index: RepositoryIndex, count: int) -> None:
    assert find(index, "order = load_order(order_id)\n", count=count) == []


@pytest.mark.parametrize("before", ["", "\n", "zzz qqq\n", "load_order(order_id)", "é 😀\n"])
def test_nothing_in_common_finds_nothing(index: RepositoryIndex, before: str) -> None:
    assert find(index, before) == []


@pytest.mark.parametrize("files", [[], FILES[3:], [File("a.py", "python", "+ - *\n")]])
def test_an_index_of_nothing(files: list[File]) -> None:
    index = RepositoryIndex(files)
    assert len(index) <= 1
    assert find(index, "order\n") == []


def test_chunks_are_lines_of_the_file() -> None:
    text = "".join(f"call(value{number}, other)\n" for number in range(30))
    index = RepositoryIndex([File("a.py", "python", text)])
    assert len(index) == 3
    found = find(index, "value13\n", count=1)[0]
    assert found.first_line == CHUNK_LINES + 1
    assert found.text.split("\n") == text.split("\n")[CHUNK_LINES : 2 * CHUNK_LINES]


def test_the_lines_below_count_too(index: RepositoryIndex) -> None:
    assert find(index, "", "\nload_order(order_id)\n")[0].path == "app/orders.py"


def test_the_same_question_has_the_same_answer() -> None:
    first, second = RepositoryIndex(FILES), RepositoryIndex(FILES)
    same = [File(f"{name}.py", "python", "def alike(a):\n    return a\n") for name in "bcda"]
    tied = RepositoryIndex(same)
    for _ in range(3):
        assert find(first, "user order\n") == find(second, "user order\n")
        assert [chunk.path for chunk in find(tied, "alike\n")] == ["a.py", "b.py", "c.py"]


@given(
    st.lists(st.sampled_from(["load_user(1)", "order_id", "x" * 900 + " fetch", ""]), max_size=20),
    st.text(alphabet="load_user(order_id) =", max_size=60),
)
def test_typing_in_a_line_finds_the_same(lines: list[str], typed: str) -> None:
    index = RepositoryIndex(FILES)
    before, after = "\n".join([*lines, ""]), "\nreturn user_id" + " and order_id" * 300 + "\nx"
    found = find(index, before, after)
    for length in range(0, len(typed), 5):
        assert find(index, before + typed[:length], after) == found
        assert find(index, before + typed[:length], ")" * length + after) == found


def test_a_long_line_above_is_cut_at_the_same_place_while_typing(index: RepositoryIndex) -> None:
    before = "load_order(" + "z" * 3988 + "\n"
    found = find(index, before)
    assert found
    assert all(find(index, before + "a" * length) == found for length in range(30))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("loadUser", ["loaduser", "load", "user"]),
        ("HTTPServer2", ["httpserver2", "http", "server"]),
        ("snake_case", ["snake_case", "snake", "case"]),
        ("plain", ["plain"]),
        ("_", ["_"]),
        ("a1 + b", ["a1", "b"]),
        ("42", []),
    ],
)
def test_words(text: str, wanted: list[str]) -> None:
    assert words(text) == wanted


def library(count: int = 1) -> list[File]:
    """Files that define ``parse_header``, and one that only talks of the same things."""
    defining = [
        File(
            f"lib/reader{number}.py",
            "python",
            f"{'# Nothing alike.' * 3}\n" * 12
            + f"\n\ndef parse_header(data):\n    return {number}\n",
        )
        for number in range(count)
    ]
    alike = "parse(header, data)\nprint(parse_header(data), header)\n" * 3
    return [*defining, File("lib/use.py", "python", alike)]


def test_what_defines_a_symbol_near_the_cursor_comes_behind_what_is_alike() -> None:
    index = RepositoryIndex(library())
    found = find(index, "parse(header, data)\nprint(parse_header(data), header)\n", count=1)
    assert [(chunk.path, chunk.why) for chunk in found] == [
        ("lib/use.py", "alike"),
        ("lib/reader0.py", "defines parse_header"),
    ]
    assert found[1].first_line == 15
    assert found[1].text == "def parse_header(data):\n    return 0"


def test_the_first_lines_of_a_definition_are_enough() -> None:
    text = "x = 1\n" * 12 + "class ParserOfHeaders:\n" + "    name = 1\n" * 40
    index = RepositoryIndex([File("lib/a.py", "python", text), *FILES])
    before = f"load_user(user_id)\n    {FETCH}(user_id, ParserOfHeaders)\n"
    found = find(index, before, count=1)
    assert found[-1].why == "defines ParserOfHeaders"
    assert found[-1].text.split("\n") == text.split("\n")[12 : 12 + DEFINITION_LINES]


def test_the_cursors_own_line_defines_nothing() -> None:
    assert find(RepositoryIndex(library()), "x = 1\nheader = parse_header(data)") == []


def test_a_name_that_many_places_define_says_nothing() -> None:
    enough, too_many = (RepositoryIndex(library(n)) for n in (MOST_PLACES, MOST_PLACES + 1))
    wanted = "defines parse_header"
    assert wanted in {one.why for one in find(enough, "parse_header(data)\n", count=1)}
    assert {one.why for one in find(too_many, "parse_header(data)\n", count=1)} == {"alike"}


@pytest.mark.parametrize(
    "line",
    ["def parse_header(x):", "class parse_header:", "const parse_header = 1", "fn parse_header("],
)
def test_what_the_file_defines_itself_is_not_looked_for(line: str) -> None:
    found = find(RepositoryIndex(library()), f"{line}\n    pass\n\nparse_header(data)\n")
    assert found
    assert {one.why for one in found} == {"alike"}


def test_a_definition_in_the_file_itself_or_in_another_language_does_not_count() -> None:
    index = RepositoryIndex(library())
    found = find(index, "parse_header(data)\n", path="lib/reader0.py")
    assert {one.why for one in found} == {"alike"}
    other = File("lib/reader.ts", "typescript", "export function parse_header(data) {}\n")
    found = find(RepositoryIndex([other, *library()[1:]]), "parse_header(data)\n")
    assert {one.why for one in found} == {"alike"}


def test_of_several_definitions_the_imported_file_goes_first() -> None:
    index = RepositoryIndex(library(3))
    before = "from lib.reader2 import parse_header\n\nheader = parse_header(data)\n"
    for name in ("reader2", "reader1"):
        found = find(index, before.replace("reader2", name), count=1)
        assert [one.why for one in found[1:]] == ["defines parse_header"] * MOST_DEFINITIONS
        assert found[1].path == f"lib/{name}.py"


def test_pieces_say_that_their_file_is_imported() -> None:
    text = "print(rows + cells)\n"
    index = RepositoryIndex([File(f"lib/{name}.py", "python", text) for name in "abc"])
    found = find(index, "from lib.b import total\n\nrows + cells\n", count=3)
    assert {one.path: one.why for one in found} == {
        "lib/a.py": "alike",
        "lib/b.py": "imported",
        "lib/c.py": "alike",
    }


def test_definitions_displace_nothing() -> None:
    """What is alike is the same, and in the same order, as without any definitions."""
    files = [*library(2), *FILES]
    before = "load_user(order)\nparse_header(user_id)\n"
    found = find(RepositoryIndex(files), before, count=2)
    assert [one.score > 0 for one in found] == [True, True, *[False] * (len(found) - 2)]
    assert len(find(RepositoryIndex(files), before, count=0)) == 0
    assert found[:1] == find(RepositoryIndex(files), before, count=1)[:1]


def test_no_line_is_shown_twice() -> None:
    text = "def parse_header(data):\n    header = data\n    return header\n"
    found = find(RepositoryIndex([File("lib/a.py", "python", text)]), "parse_header(header)\n")
    assert [one.why for one in found] == ["defines parse_header"]


def test_the_order_of_the_files_changes_nothing() -> None:
    files = [*library(3), *FILES, *(File(f"x/{n}.py", "python", USERS) for n in range(5))]
    before = "from lib.reader2 import x\nparse_header(user_id)\nload_user(order)\n"
    wanted = find(RepositoryIndex(files), before, count=6)
    for seed in range(5):
        mixed = random.Random(seed).sample(files, len(files))
        assert find(RepositoryIndex(mixed), before, count=6) == wanted


def test_indexing_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """An editor shows as an error what its server writes."""
    caplog.set_level(logging.DEBUG)
    RepositoryIndex(FILES)
    assert caplog.records == []
