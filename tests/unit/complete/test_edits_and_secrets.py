"""What of other files and of the cursor's own may enter a prompt."""

from dataclasses import dataclass

import pytest

from flex_assist.complete import private
from flex_assist.complete.edits import EditedSpan, pieces, span
from flex_assist.complete.private import without_secrets
from flex_assist.config import PromptSettings
from flex_assist.language import BY_NAME
from flex_assist.prompt.builder import fitted, outline
from flex_assist.prompt.retrieval import RepositoryIndex

SECRET = "password = 'vK2x9mQz7LpR'"
TEXT = "\n".join(f"line{number} = {number}" for number in range(40))


@dataclass
class File:
    path: str
    language: str
    text: str


INDEX = RepositoryIndex(
    [File("a.py", "python", "x = 1"), File("b.py", "python", "y = 1"), File("c.go", "go", "z")]
)


def test_a_span_has_some_lines_around_and_is_never_long() -> None:
    found = span("a.py", TEXT, 10, 10)
    assert found == EditedSpan(path="a.py", first_line=9, text="\n".join(TEXT.split("\n")[8:13]))
    long = span("a.py", TEXT, 5, 30)
    assert long is not None
    assert long.text.split("\n") == TEXT.split("\n")[3:15]
    below = span("a.py", TEXT.replace("\n", "\r\n"), 39, 90)
    assert below is not None
    assert below.text == "line37 = 37\nline38 = 38\nline39 = 39"
    blank = span("a.py", "\n\n\nx\n", 3, 3)
    assert blank is not None
    assert (blank.first_line, blank.text) == (4, "x")
    assert span("a.py", "\n  \n", 0, 1) is None


def test_of_a_document_with_a_secret_there_is_no_span() -> None:
    assert span("a.py", f"{TEXT}\n{SECRET}\n", 1, 1) is None


def test_only_files_that_mining_accepts_give_pieces() -> None:
    spans = [EditedSpan(path=path, first_line=3, text=f"# {path}")
             for path in ("ignored.py", "a.py", "b.py", "c.go")]  # fmt: skip
    found = list(pieces(spans, INDEX, path="b.py", language="python"))
    assert [(chunk.path, chunk.first_line, chunk.why) for chunk in found] == [("a.py", 3, "edited")]
    assert list(pieces(spans, INDEX, path="b.py", language=None)) == []


def test_personal_data_is_masked_as_in_training() -> None:
    spans = [EditedSpan(path="a.py", first_line=1, text="author = 'anna.smith@mail.org'")]
    (chunk,) = pieces(spans, INDEX, path=None, language="python")
    assert "anna" not in chunk.text


@pytest.mark.parametrize("most", [10, 200, 10_000])
def test_secrets_around_the_cursor_are_masked(most: int) -> None:
    before = f"{TEXT}\n{SECRET}\nx = "
    after = f"\n{SECRET}\n" if most > 10 else ""
    shown_before, shown_after = without_secrets(before, after, most)
    assert "vK2x" not in shown_before[-most:] + shown_after
    assert shown_before.count("\n") == before.count("\n")
    assert shown_before.endswith("\nx = ")
    assert without_secrets("x = 1", "\ny", most) == ("x = 1", "\ny")


def test_budgets_shrink_together_where_the_context_is_small() -> None:
    usual = PromptSettings()
    assert fitted(usual, 2048) is usual
    small = fitted(usual, 464)
    sizes = (small.prefix_tokens, small.suffix_tokens, small.retrieval_tokens)
    assert sizes == (192, 64, 128)
    assert fitted(usual, 10).prefix_tokens == 0


def test_in_the_prompt_a_span_has_the_form_of_any_piece() -> None:
    """Training has shown pieces of files; it needs no other way to make these."""
    (edited,) = pieces(
        [EditedSpan(path="a.py", first_line=1, text="x = 1")], INDEX, path=None, language="python"
    )
    (found,) = RepositoryIndex([File("a.py", "python", "x = 1")]).search(
        "x\n", "", path=None, language="python", count=1
    )
    texts = [
        outline(
            "y",
            "",
            path="b.py",
            language=BY_NAME["python"],
            chunks=[one],
            settings=PromptSettings(),
        ).texts()
        for one in (edited, found)
    ]
    assert texts[0] == texts[1]


def test_one_long_line_is_not_looked_through_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(private, "_redacted", lambda text: seen.append(len(text)) or text)
    before = "x" * 1_000_000
    assert without_secrets(before, before, 1000) == (before, before[:1000])
    assert max(seen) == 1000 + private.LONGEST_LINE
