"""Where the documents were edited last."""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from flex_lsp.document import Document, Edit

# An edit so near to the last one of its document goes on from it.
NEAR_LINES = 3
DOCUMENTS_KEPT = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """Lines of a document, from 0, both included."""

    first: int
    last: int


class EditedLines:
    """The lines edited last in each document, the document edited last at the end."""

    def __init__(self) -> None:
        self._lines: OrderedDict[str, Lines] = OrderedDict()

    def note(self, document: Document, edits: Iterable[Edit]) -> None:
        """Note what ``edits`` changed in ``document``, which has them already."""
        for edit in edits:
            if edit.start is not None:
                self._note(document.uri, edit)
        while len(self._lines) > DOCUMENTS_KEPT:
            self._lines.popitem(last=False)

    def forget(self, uri: str) -> None:
        """Nothing of this document counts any more."""
        self._lines.pop(uri, None)

    def newest(self) -> list[tuple[str, Lines]]:
        """Documents and lines, the newest first."""
        return list(reversed(self._lines.items()))

    def _note(self, uri: str, edit: Edit) -> None:
        assert edit.start is not None
        first = edit.start[0]
        last = first + edit.text.count("\n")
        former = self._lines.pop(uri, None)
        if former is not None:
            moved = last - edit.end[0]
            if former.first - NEAR_LINES <= first <= former.last + NEAR_LINES:
                first = min(first, former.first)
                last = max(last, former.last + moved)
        self._lines[uri] = Lines(first=first, last=last)
