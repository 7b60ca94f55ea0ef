"""An open document: an immutable snapshot, and what an edit makes of it."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from urllib.parse import unquote, urlsplit

from flex_lsp.line_index import Encoding, line_starts, offset_at, position_at

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
        document = self
        for edit in edits:
            document = document._after(edit, encoding)
        return replace(document, version=version)

    def _after(self, edit: Edit, encoding: Encoding) -> "Document":
        text = _storable(edit.text)
        if edit.start is not None:
            first, last = sorted(
                (self.offset(edit.start, encoding), self.offset(edit.end, encoding))
            )
            text = self.text[:first] + text + self.text[last:]
        return replace(self, text=text, starts=line_starts(text))


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
