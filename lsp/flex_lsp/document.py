"""An open document: an immutable snapshot, and what an edit makes of it."""

import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from urllib.parse import unquote, urlsplit

from flex_lsp.line_index import Encoding, line_starts, next_line, offset_at, position_at

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
# Each cell of a notebook is a document: the path of the notebook, and a fragment.
CELL_SCHEME = "vscode-notebook-cell"
_WINDOWS_DRIVE = re.compile(r"^/[A-Za-z]:")


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """One change of a text: the piece between two positions is replaced.

    Attributes:
        start: Line and character, or None where the whole text is replaced.
    """

    text: str
    start: tuple[int, int] | None = None
    end: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A text at one version. Handlers keep it across an await; edits make a new one."""

    uri: str
    language_id: str | None
    version: int
    text: str
    starts: list[int] = field(repr=False)

    def offset(self, position: tuple[int, int], encoding: Encoding) -> int:
        """The offset of a position, moved into the text if it is outside."""
        return offset_at(self.text, self.starts, *position, encoding)

    def position(self, offset: int, encoding: Encoding) -> tuple[int, int]:
        """The position of an offset."""
        return position_at(self.text, self.starts, offset, encoding)

    def edited(self, edits: Iterable[Edit], version: int, encoding: Encoding) -> "Document":
        """The document after ``edits``, each of which counts in the text that the last one left."""
        editing = _Editing(self.text, self.starts)
        for edit in edits:
            editing.apply(edit, encoding)
        return replace(self, version=version, text=editing.text, starts=editing.all_starts())


class _Editing:
    """A text while edits are made in it; where its lines start is known as far as it is needed.

    Replacing all of something comes as thousands of edits of one change, mostly from the end on.
    """

    def __init__(self, text: str, starts: Sequence[int]) -> None:
        self.text = text
        self._starts = list(starts)
        self._complete = True

    def apply(self, edit: Edit, encoding: Encoding) -> None:
        """Make one edit."""
        text = _storable(edit.text)
        if edit.start is None:
            self.text, self._starts, self._complete = text, line_starts(text), True
            return
        ends = (self._offset(edit.start, encoding), self._offset(edit.end, encoding))
        first, last = min(ends), max(ends)
        self.text = self.text[:first] + text + self.text[last:]
        # Right at the edit a line feed may have joined the carriage return before it.
        del self._starts[max(1, bisect_left(self._starts, first)) :]
        self._complete = False

    def all_starts(self) -> list[int]:
        """Where all lines start."""
        if not self._complete:
            last = self._starts[-1]
            self._starts += [last + start for start in line_starts(self.text[last:])[1:]]
            self._complete = True
        return self._starts

    def _offset(self, position: tuple[int, int], encoding: Encoding) -> int:
        line = position[0]
        while not self._complete and len(self._starts) < line + 2:
            start = next_line(self.text, self._starts[-1])
            self._complete = start is None
            if start is not None:
                self._starts.append(start)
        return offset_at(self.text, self._starts, *position, encoding)


def opened(uri: str, language_id: str | None, version: int, text: str) -> Document:
    """A document as the editor opens it."""
    text = _storable(text)
    return Document(
        uri=uri, language_id=language_id, version=version, text=text, starts=line_starts(text)
    )


def file_path(uri: str) -> PurePath | None:
    """The path of a document's file, or of the notebook that it is a cell of; else None."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return None
    if parts.scheme not in ("file", CELL_SCHEME):
        return None
    path = unquote(parts.path)
    if "\0" in path:
        return None
    if parts.scheme == CELL_SCHEME:
        # A notebook without a file has no "/" in front. The host, as "wsl+ubuntu", is where the
        # editor reaches the machine that the server runs on.
        if not path.startswith("/"):
            return None
        parts = parts._replace(netloc="")
    if _WINDOWS_DRIVE.match(path):
        path = path[1].lower() + path[2:]
    elif parts.netloc and parts.netloc != "localhost":
        path = f"//{parts.netloc}{path}"
    return PurePath(path) if path else None


def _storable(text: str) -> str:
    """Half a surrogate pair cannot be encoded: U+FFFD has the same width in every encoding."""
    return text if text.isascii() else _LONE_SURROGATE.sub("\ufffd", text)
