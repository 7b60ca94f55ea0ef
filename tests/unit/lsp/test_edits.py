"""Where documents were edited last."""

from flex_lsp import edits
from flex_lsp.document import Edit, opened
from flex_lsp.edits import EditedLines, Lines
from flex_lsp.line_index import Encoding


def typed(log: EditedLines, uri: str, *made: Edit, text: str = "x\n" * 40) -> None:
    document = opened(uri, "python", 1, text)
    log.note(document.edited(made, 2, Encoding.UTF8), made)


def edit(line: int, text: str = "y", end: int | None = None) -> Edit:
    last = line if end is None else end
    return Edit(text=text, start=(line, 0), end=(last, 0))


def test_edits_near_each_other_are_one_span() -> None:
    log = EditedLines()
    typed(log, "a", edit(10), edit(11), edit(12, "1\n2\n"))
    assert log.newest() == [("a", Lines(first=10, last=14))]
    # Lines that go make it shorter.
    typed(log, "a", edit(11, "", end=13))
    assert log.newest() == [("a", Lines(first=10, last=12))]
    typed(log, "a", edit(8))
    assert log.newest() == [("a", Lines(first=8, last=12))]


def test_an_edit_elsewhere_begins_anew() -> None:
    log = EditedLines()
    typed(log, "a", edit(1), edit(30))
    assert log.newest() == [("a", Lines(first=30, last=30))]


def test_the_newest_come_first_and_few_are_kept() -> None:
    log = EditedLines()
    for number in range(edits.DOCUMENTS_KEPT + 2):
        typed(log, str(number), edit(1))
    typed(log, "5", edit(1))
    assert [uri for uri, _ in log.newest()][:2] == ["5", str(edits.DOCUMENTS_KEPT + 1)]
    assert len(log.newest()) == edits.DOCUMENTS_KEPT
    log.forget("5")
    assert "5" not in dict(log.newest())


def test_a_text_that_is_replaced_as_a_whole_tells_no_place() -> None:
    log = EditedLines()
    typed(log, "a", Edit(text="z"))
    assert log.newest() == []
