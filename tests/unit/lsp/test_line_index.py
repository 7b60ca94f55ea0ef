"""Positions and edits against an oracle that knows nothing of offsets: lists of lines of units."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flex_lsp import document as documents
from flex_lsp import line_index
from flex_lsp.document import Document, Edit, opened
from flex_lsp.line_index import Encoding, line_starts, offset_at, position_at, units

ALPHABET = "ab\t é✓\U0001f600\u2028\u2029\x0b\x0c\x1c\x85\n\r"
texts = st.lists(st.sampled_from([*ALPHABET, "\r\n"]), max_size=40).map("".join)
encodings = st.sampled_from(Encoding)


def oracle_lines(text: str) -> list[str]:
    """Lines without their ends, the slow and simple way."""
    lines, current, skip = [], "", False
    for index, here in enumerate(text):
        if skip:
            skip = False
        elif here in "\r\n":
            lines.append(current)
            current, skip = "", text[index : index + 2] == "\r\n"
        else:
            current += here
    return [*lines, current]


def width(character: str, encoding: Encoding) -> int:
    """Units of one character, from the ranges of the encodings."""
    point = ord(character)
    if encoding is Encoding.UTF8:
        return 1 if point < 0x80 else 2 if point < 0x800 else 3 if point < 0x10000 else 4
    return 2 if encoding is Encoding.UTF16 and point >= 0x10000 else 1


@given(texts)
def test_lines_are_those_of_the_protocol(text: str) -> None:
    starts = line_starts(text)
    found = [
        text[start:end].rstrip("\r\n")
        for start, end in zip(starts, [*starts[1:], len(text)], strict=True)
    ]
    assert found == oracle_lines(text)


@given(texts, encodings)
def test_every_position_leads_to_its_offset_and_back(text: str, encoding: Encoding) -> None:
    starts = line_starts(text)
    for number, line in enumerate(oracle_lines(text)):
        character = 0
        for index in range(len(line) + 1):
            offset = starts[number] + index
            assert offset_at(text, starts, number, character, encoding) == offset
            assert position_at(text, starts, offset, encoding) == (number, character)
            character += width(line[index], encoding) if index < len(line) else 0


@given(texts, encodings, st.integers(0, 60), st.integers(0, 200))
def test_positions_outside_are_moved_inside(
    text: str, encoding: Encoding, line: int, beyond: int
) -> None:
    starts, lines = line_starts(text), oracle_lines(text)
    if line >= len(lines):
        assert offset_at(text, starts, line, beyond, encoding) == len(text)
    else:
        end = starts[line] + len(lines[line])
        past = units(lines[line], encoding) + beyond
        assert offset_at(text, starts, line, past, encoding) == end


def test_a_position_inside_of_a_character_is_its_beginning() -> None:
    text = "a\U0001f600b"
    starts = line_starts(text)
    assert [offset_at(text, starts, 0, at, Encoding.UTF8) for at in range(7)] == [
        0,
        1,
        1,
        1,
        1,
        2,
        3,
    ]
    assert [offset_at(text, starts, 0, at, Encoding.UTF16) for at in range(5)] == [0, 1, 1, 2, 3]


@given(texts, encodings, st.data())
def test_edits_change_what_an_editor_changes(
    text: str, encoding: Encoding, data: st.DataObject
) -> None:
    first = document = opened("untitled:1", None, 0, text)
    edits = []
    for version in range(1, data.draw(st.integers(1, 5)) + 1):
        text, edit = _random_edit(text, encoding, data)
        document = document.edited([edit], version, encoding)
        assert (document.text, document.version) == (text, version)
        assert document.starts == line_starts(text)
        edits.append(edit)
    assert first.edited(edits, document.version, encoding) == document
    assert first.starts == line_starts(first.text)


def _random_edit(text: str, encoding: Encoding, data: st.DataObject) -> tuple[str, Edit]:
    """An edit in positions, and what the text must be then, worked out in lines of characters."""
    lines, starts, new = oracle_lines(text), line_starts(text), data.draw(texts)
    places = []
    for _ in range(2):
        line = data.draw(st.integers(0, len(lines) - 1))
        places.append((line, data.draw(st.integers(0, len(lines[line])))))
    places.sort()
    (first_line, first), (last_line, last) = places
    after = text[: starts[first_line] + first] + new + text[starts[last_line] + last :]
    start, end = [
        (line, sum(width(character, encoding) for character in lines[line][:index]))
        for line, index in places
    ]
    return after, Edit(text=new, start=start, end=end)


def test_several_edits_count_one_after_the_other() -> None:
    document = opened("untitled:1", None, 0, "one\ntwo")
    edits = [
        Edit(text="\n", start=(0, 1), end=(0, 1)),
        Edit(text="X", start=(1, 0), end=(1, 1)),
        Edit(text="", start=(2, 3), end=(1, 2)),
    ]
    assert document.edited(edits, 1, Encoding.UTF16).text == "o\nXe"


def test_the_whole_text_can_be_replaced() -> None:
    document = opened("untitled:1", None, 0, "one\ntwo")
    replaced = document.edited([Edit(text="new\r\n")], 1, Encoding.UTF16)
    assert (replaced.text, replaced.starts) == ("new\r\n", [0, 5])


def test_half_a_surrogate_pair_becomes_something_that_can_be_encoded() -> None:
    document: Document = opened("untitled:1", None, 0, "a\ud83db")
    changed = document.edited([Edit(text="\ude00", start=(0, 3), end=(0, 3))], 1, Encoding.UTF16)
    assert changed.text == "a\ufffdb\ufffd"
    changed.text.encode()


@pytest.mark.parametrize("upwards", [True, False])
def test_replacing_all_looks_at_the_lines_once(
    upwards: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands of edits of one change."""
    count = 3000
    text = "the old name\n" * count
    opened_text = opened("untitled:1", None, 0, text)
    looked, plain = [], line_starts
    searched, next_one = [], line_index.next_line
    monkeypatch.setattr(documents, "line_starts", lambda text: looked.append(1) or plain(text))
    monkeypatch.setattr(
        documents, "next_line", lambda *given: searched.append(1) or next_one(*given)
    )
    lines = range(count) if not upwards else reversed(range(count))
    edits = [Edit(text="new", start=(line, 4), end=(line, 7)) for line in lines]
    found = opened_text.edited(edits, 1, Encoding.UTF16)
    assert found.text == "the new name\n" * count
    assert len(looked) == 1
    assert len(searched) <= 3 * count


def test_a_line_feed_that_joins_a_carriage_return_before_it() -> None:
    text = opened("untitled:1", None, 0, "a\rb\nc")
    found = text.edited([Edit(text="\n", start=(1, 0), end=(1, 0))], 1, Encoding.UTF16)
    assert (found.text, found.starts) == ("a\r\nb\nc", [0, 3, 5])
