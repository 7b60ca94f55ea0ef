"""Prompts: their layout, their budgets, and what typing changes in them.

The vocabulary here is one of the test's own: a run of white space is one token, and so is a word,
as in the vocabularies in use. The real one is met in the integration tests.
"""

import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flex_assist.config import PromptSettings
from flex_assist.language import BY_NAME
from flex_assist.models.fim import FimTokens
from flex_assist.prompt.builder import (
    BLOCK_LINES,
    MAX_BYTES_PER_TOKEN,
    MAX_PATH_CHARACTERS,
    Outline,
    Prompt,
    assemble,
    comment,
    outline,
)
from flex_assist.prompt.retrieval import Chunk

PYTHON, GO = BY_NAME["python"], BY_NAME["go"]
FIM = FimTokens(suffix_id=-1, prefix_id=-2, middle_id=-3, end_id=-4)
SMALL = PromptSettings(prefix_tokens=32, suffix_tokens=8, retrieval_tokens=20, retrieval_chunks=3)
# Like the vocabularies in use: white space goes with what follows, but for the last of a run.
TOKEN = re.compile(r"\s+(?!\S)|\s?[A-Za-z_]+|\s?[0-9]|\s?[^\sA-Za-z_0-9]|\s+")
KNOWN: dict[str, int] = {}
SPELLED: list[str] = []
lines = st.lists(
    st.sampled_from(["x = 1", "", "    y(a, b)", "   ", "# z  ", "\treturn x", "def f():", "é 😀"]),
    max_size=40,
)


def encode(text: str) -> list[int]:
    ids = []
    for word in TOKEN.findall(text):
        if word not in KNOWN:
            KNOWN[word] = len(SPELLED)
            SPELLED.append(word)
        ids.append(KNOWN[word])
    return ids


def decode(ids: Sequence[int]) -> str:
    return "".join(SPELLED[one] if one >= 0 else f"<{-one}>" for one in ids)


def plan(before: str, after: str = "", **changes: object) -> Outline:
    named = {"path": "a.py", "language": PYTHON, "chunks": (), "settings": SMALL, **changes}
    return outline(before, after, **named)  # type: ignore[arg-type]


def build(
    planned: Outline, fim: FimTokens | None = FIM, settings: PromptSettings = SMALL
) -> Prompt:
    return assemble(planned, [encode(text) for text in planned.texts()], fim, settings)


def chunk(path: str, text: str) -> Chunk:
    return Chunk(path=path, language="python", first_line=1, text=text)


def test_the_layout_is_pieces_suffix_prefix() -> None:
    planned = plan("a\nb", " c\nd", chunks=[chunk("other.py", "one\ntwo")])
    prompt = build(planned)
    assert decode(prompt.tokens) == "# other.py\none\ntwo\n\n<1> c\nd<2># a.py\na\nb"
    assert [name for name, _ in prompt.parts] == ["retrieval", "suffix", "start", "path", "prefix"]
    assert sum(size for _, size in prompt.parts) == len(prompt.tokens)
    assert prompt.answer_tokens == 0


def test_a_model_without_infilling_tokens_gets_no_suffix() -> None:
    prompt = build(plan("a\nb", " c\nd", chunks=[chunk("o.py", "one")]), fim=None)
    assert decode(prompt.tokens) == "# o.py\none\n\n# a.py\na\nb"
    assert [name for name, _ in prompt.parts] == ["retrieval", "path", "prefix"]


def test_without_a_path_there_is_no_header() -> None:
    assert decode(build(plan("a", path=None)).tokens) == "<1><2>\na"


def test_an_empty_document() -> None:
    assert decode(build(plan("", "")).tokens) == "<1><2># a.py\n"


@pytest.mark.parametrize(
    ("language", "text", "wanted"),
    [
        (PYTHON, "a/b.py", "# a/b.py"),
        (GO, "a/b.go", "// a/b.go"),
        (None, "a", "# a"),
        (BY_NAME["css"], "a/b.css", "/* a/b.css */"),
        (BY_NAME["css"], "a*/b { top: 0 }", "/* a b { top: 0 } */"),
        (BY_NAME["css"], "**//", "/* * / */"),
        (PYTHON, "a\nimport os\r\u2028b", "# a import os b"),
    ],
)
def test_a_comment_is_one_line(language: object, text: str, wanted: str) -> None:
    assert comment(language, text) == wanted  # type: ignore[arg-type]


def test_a_path_cannot_say_more_than_its_end() -> None:
    planned = plan("a", path="x" * 5000 + "/end.py", chunks=[chunk("y" * 5000, "one")])
    assert planned.header.endswith("/end.py")
    assert len(planned.header) < MAX_PATH_CHARACTERS + 5
    assert len(planned.chunks[0].split("\n")[0]) < MAX_PATH_CHARACTERS + 5


@given(lines)
def test_the_blocks_are_the_text(given: list[str]) -> None:
    before = "\n".join(given)
    settings = PromptSettings(prefix_tokens=32768)
    planned = plan(before, settings=settings)
    assert "".join(planned.blocks) == "\n" + before
    assert all(block.startswith("\n") for block in planned.blocks)
    assert all(block.count("\n") < 2 * BLOCK_LINES for block in planned.blocks)


@given(lines)
def test_the_ids_of_the_blocks_are_the_ids_of_the_whole(given: list[str]) -> None:
    before = "\n".join(given)
    planned = plan(before, settings=PromptSettings(prefix_tokens=32768))
    if any(not line.strip() or line[-1].isspace() for line in given):
        # Eight lines that all end in white space leave no good place.
        runs = "".join("w" if not line or line[-1].isspace() else "x" for line in given)
        if "w" * BLOCK_LINES in runs:
            return
    ids = [one for block in planned.blocks for one in encode(block)]
    assert ids == encode("\n" + before)


@given(lines, st.text(alphabet="ab( ,", max_size=30))
def test_typing_in_a_line_changes_the_end_of_the_prompt_only(given: list[str], typed: str) -> None:
    before = "\n".join([*given, ""])
    settings = PromptSettings(prefix_tokens=4096)
    first = build(plan(before, "\nrest", settings=settings), settings=settings).tokens
    for length in range(1, len(typed) + 1):
        text = before + typed[:length]
        later = build(plan(text, "\nrest", settings=settings), settings=settings).tokens
        # All that was asked for before, but for the last block, is still there.
        kept = len(first) - len(encode(plan(before, settings=settings).blocks[-1]))
        assert later[:kept] == first[:kept]


def test_the_window_moves_by_whole_blocks_and_seldom() -> None:
    settings = PromptSettings(prefix_tokens=256)
    text = "".join(f"name{number} = value\n" for number in range(100, 300))
    starts = set()
    for length in range(len(text) - 400, len(text)):
        prompt = build(plan(text[:length], settings=settings), settings=settings)
        prefix = prompt.tokens[-dict(prompt.parts)["prefix"] :]
        starts.add(decode(prefix)[:12])
    # 400 characters are 24 lines, three blocks.
    assert len(starts) <= 4


def test_a_block_just_begun_after_long_lines_is_not_alone() -> None:
    text = "".join(f"name{number} = [{', value' * 30}]\n" for number in range(41))
    for length in range(len(text) - 800, len(text)):
        size = dict(build(plan(text[:length])).parts)["prefix"]
        assert 16 <= size <= 32


def test_a_block_longer_than_the_budget_is_cut_in_steps() -> None:
    text = "x = [" + ", ".join("value" for _ in range(500))
    beginnings = []
    for typed in range(24):
        prompt = build(plan(text + " a" * typed))
        size = dict(prompt.parts)["prefix"]
        assert 24 <= size <= 32
        beginnings.append(len(encode("\n" + text)) + typed - size)
    assert len(set(beginnings)) <= 4


@given(
    lines,
    lines,
    st.lists(lines, max_size=4),
    st.integers(32, 80),
    st.integers(0, 20),
    st.integers(0, 60),
)
def test_the_budgets_are_kept(
    before: list[str],
    after: list[str],
    others: list[list[str]],
    prefix: int,
    suffix: int,
    more: int,
) -> None:
    settings = PromptSettings(prefix_tokens=prefix, suffix_tokens=suffix, retrieval_tokens=more)
    chunks = [chunk(f"{number}.py", "\n".join(text)) for number, text in enumerate(others)]
    planned = plan("\n".join(before), "\n".join(after), chunks=chunks, settings=settings)
    sizes = dict(build(planned, settings=settings).parts)
    assert sizes["retrieval"] <= more
    assert sizes["suffix"] <= suffix + 1
    assert 0 < sizes["prefix"] <= prefix


def test_a_piece_that_does_not_fit_leaves_room_for_the_next() -> None:
    chunks = [chunk("a.py", "x " * 50), chunk("b.py", "short")]
    prompt = build(plan("a", chunks=chunks))
    assert decode(prompt.tokens).startswith("# b.py\nshort\n\n<1>")


@given(
    lines, st.sampled_from(["value", "x + 1)\n    return y", " ", "\n", "é"]), st.integers(0, 20)
)
def test_training_asks_what_serving_asks(given: list[str], answer: str, cut: int) -> None:
    before = "\n".join(given) + "    name = some"
    before = before[: len(before) - cut] or "x"
    serving = build(plan(before, "\nrest"))
    training = build(plan(before, "\nrest", answer=answer))
    # The last token is healed: its text is forced, in whichever tokens. It may join the answer.
    agreed = len(serving.tokens) - 1
    assert training.tokens[:agreed] == serving.tokens[:agreed]
    assert decode(training.tokens) == decode(serving.tokens) + answer
    assert training.answer_tokens >= 1
    assert len(training.tokens) - training.answer_tokens <= len(serving.tokens)


def test_the_answer_tokens_hold_the_answer() -> None:
    prompt = build(plan("x = va", answer="lue + 1"))
    assert decode(prompt.tokens[-prompt.answer_tokens :]) == " value + 1"


def test_of_a_line_as_long_as_a_file_only_the_end_is_tokenized() -> None:
    """And typing in it seldom changes where that begins."""
    line, settings = "x = [" + "value, " * 300_000, PromptSettings(prefix_tokens=64)
    starts = set()
    for typed in range(40):
        planned = plan(line + "a" * typed, settings=settings)
        assert sum(map(len, planned.texts())) < 5 * 64 * MAX_BYTES_PER_TOKEN
        assert planned.blocks[-1].endswith("a" * typed)
        prompt = build(planned, settings=settings)
        assert dict(prompt.parts)["prefix"] > 32
        starts.add(len(line) + typed - len(planned.blocks[-1]))
    assert len(starts) <= 2
