"""Spans that somebody has just edited in other files: they often say what comes next here."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # Only named here: it needs numpy, and front ends start without it.
    from flex_assist.prompt.retrieval import Chunk, RepositoryIndex

# Lines of a piece, as those of the index.
MOST_LINES = 12
LINES_AROUND = 2
# Longer documents are not looked through for secrets while somebody types.
MOST_CHARACTERS = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class EditedSpan:
    """Lines of an open document, as they are now.

    Attributes:
        path: Relative to the repository's root.
        first_line: From 1.
    """

    path: str
    first_line: int
    text: str


def span(path: str, document: str, first: int, last: int) -> EditedSpan | None:
    """The span around edited lines; None where they are blank, or the document has a secret.

    Args:
        first, last: Lines from 0, both included.
    """
    return _span(path, document, first, last) if len(document) <= MOST_CHARACTERS else None


# The same is asked at each key in another document.
@lru_cache(maxsize=32)
def _span(path: str, document: str, first: int, last: int) -> EditedSpan | None:
    lines = document.replace("\r\n", "\n").split("\n")
    start = max(0, min(first, len(lines) - 1) - LINES_AROUND)
    kept = lines[start : min(last + LINES_AROUND + 1, start + MOST_LINES)]
    while kept and not kept[0].strip():
        del kept[0]
        start += 1
    text = "\n".join(kept).rstrip()
    if not text or _has_secret(document):
        return None
    return EditedSpan(path=path, first_line=start + 1, text=text)


def pieces(
    spans: Iterable[EditedSpan], index: "RepositoryIndex", *, path: str | None, language: str | None
) -> "Iterator[Chunk]":
    """The spans that may enter a prompt, in the form in which training showed pieces of files.

    Only files that mining has accepted count: what is ignored, generated, too new, or had a secret
    when it was read, is in no index.
    """
    from flex_assist.prompt.retrieval import Chunk
    from flex_assist.repository import masking

    for one in spans:
        known = index.language_of(one.path)
        if one.path != path and known is not None and known == language:
            yield Chunk(
                path=one.path, language=known, first_line=one.first_line,
                text=masking.mask(one.text)[0], why="edited",
            )  # fmt: skip


@lru_cache(maxsize=16)
def _has_secret(document: str) -> bool:
    # Imported here: its rules take a while to load, and editors wait for the server's start.
    from flex_assist.repository import secrets

    return secrets.contains_secret(document) is not None
