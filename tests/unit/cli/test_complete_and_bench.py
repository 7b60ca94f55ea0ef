"""The command line's own reading: places, offsets, cases."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flex_assist.cli.bench import read_cases, summarize
from flex_assist.cli.complete import as_dict, offset_of, parse_place
from flex_assist.complete.request import Completion
from flex_assist.errors import ConfigError, DataError

CASE = {"id": "1", "path": "a.py", "language": "python", "prefix": "x", "suffix": "", "middle": "y"}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a.py:1:2", (Path("a.py"), 1, 2)),
        ("a:b.py:10:20", (Path("a:b.py"), 10, 20)),
        ("/x/a b.py:007:1", (Path("/x/a b.py"), 7, 1)),
        ("C:\\a.py:1:1", (Path("C:\\a.py"), 1, 1)),
    ],
)
def test_a_place(text: str, wanted: tuple[Path, int, int]) -> None:
    assert parse_place(text) == wanted


@pytest.mark.parametrize(
    "text",
    ["", "a.py", "a.py:1", ":1:1", "a.py:0:1", "a.py:1:0", "a.py:00:1", "a.py:1:000", "a.py:-1:1",
     "a.py:1:", "a.py::1", "a.py:x:1", "a.py:1.5:1", "a.py:٣:1", "a.py:²:1", "a.py: 1:1",
     "a.py:1:" + "9" * 5000, "a.py:1:1\n"],
)  # fmt: skip
def test_what_is_no_place(text: str) -> None:
    with pytest.raises(ConfigError, match=r"PATH:LINE:COLUMN"):
        parse_place(text)


@pytest.mark.parametrize(
    ("text", "line", "column", "offset"),
    [
        ("", 1, 1, 0), ("ab\ncd", 1, 3, 2), ("ab\ncd", 2, 1, 3), ("ab\ncd", 2, 3, 5),
        ("ab\ncd\n", 3, 1, 6), ("ab\r\ncd", 1, 3, 2), ("ab\r\ncd", 2, 2, 5), ("é😀x", 1, 3, 2),
        ("a\u2028b\nc", 2, 1, 4), ("a\x0cb\nc", 2, 1, 4),
    ],
)  # fmt: skip
def test_offsets(text: str, line: int, column: int, offset: int) -> None:
    assert offset_of(text, line, column) == offset


def test_a_line_past_the_end() -> None:
    with pytest.raises(ConfigError, match="line 3 is past the end; the text has 2 lines"):
        offset_of("a\nb", 3, 1)


@pytest.mark.parametrize("text", ["ab", "ab\ncd", "ab\r\ncd"])
def test_a_column_past_the_end(text: str) -> None:
    with pytest.raises(ConfigError, match="column 4 is past the end; line 1 ends at column 3"):
        offset_of(text, 1, 4)


@given(st.text(alphabet="ab\n\r😀", max_size=40), st.integers(1, 9), st.integers(1, 9))
def test_the_cursor_is_on_its_line(text: str, line: int, column: int) -> None:
    if line > text.count("\n") + 1 or column > len(text.split("\n")[line - 1].rstrip("\r")) + 1:
        return
    before = text[: offset_of(text, line, column)]
    assert before.count("\n") == line - 1
    assert len(before.rpartition("\n")[2]) == column - 1
    assert not (before.endswith("\r") and text[len(before) :].startswith("\n"))


def write(tmp_path: Path, *lines: str | dict[str, Any]) -> Path:
    path = tmp_path / "cases.jsonl"
    path.write_text("\n".join(one if isinstance(one, str) else json.dumps(one) for one in lines))
    return path


def test_cases_packed_or_not(tmp_path: Path) -> None:
    path = write(tmp_path, CASE, "", {**CASE, "id": 2, "more": 1})
    assert [case["id"] for case in read_cases(path)] == ["1", 2]
    packed = tmp_path / "cases.jsonl.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert read_cases(packed) == read_cases(path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", ":2 is not JSON"),
        ("[" * 100_000, ":2 is not JSON"),
        ("[]", ":2 has no 'id'"),
        ("null", ":2 has no 'id'"),
        ({**CASE, "prefix": 1}, ":2: 'prefix' is 1, not a text"),
        ({**CASE, "language": ["python"]}, ":2: 'language' is"),
        ({key: value for key, value in CASE.items() if key != "suffix"}, ":2 has no 'suffix'"),
    ],
)
def test_a_line_that_is_no_case(tmp_path: Path, line: str | dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as caught:
        read_cases(write(tmp_path, CASE, line))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.jsonl", b"\xff\xfe"), ("a.jsonl", b""), ("a.jsonl", b"\n\n"),
        ("a.jsonl.gz", b"no gzip"),
        ("a.jsonl.gz", gzip.compress(b"x" * 999)[:-9]), ("a.jsonl.gz", b""),
        ("a.jsonl.gz", gzip.compress(b"{}" * 999)[:20] + b"\xff" * 30),
    ],
)  # fmt: skip
def test_a_file_that_has_no_cases(tmp_path: Path, name: str, data: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"a\.jsonl"):
        read_cases(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.jsonl", tmp_path / "absent.gz"):
        with pytest.raises(DataError, match="cannot be read"):
            read_cases(path)


def test_a_summary_is_by_kind_and_for_all() -> None:
    records = [{**CASE, "kind": "line"}, {**CASE, "kind": "body"}, CASE]
    kinds = summarize(records, ["y", "z", " y\n"])["kinds"]
    assert {kind: (found["cases"], found["exact_match"]) for kind, found in kinds.items()} == {
        "all": (3, 0.6667), "line": (1, 1.0), "body": (1, 0.0), "other": (1, 1.0),
    }  # fmt: skip


def test_a_completion_as_the_contract_has_it() -> None:
    found = as_dict(Completion(text="x", language="python", adapter="base", reason="r"))
    assert set(found) >= {
        "completion", "language", "adapter", "reason", "timings_ms", "prompt_tokens",
        "completion_tokens",
    }  # fmt: skip
