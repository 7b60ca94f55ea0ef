"""Pieces of other files that resemble the place of the cursor (BM25 over chunks of lines)."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import bm25s
import numpy as np

CHUNK_LINES = 12
QUERY_LINES_BEFORE = 12
QUERY_LINES_AFTER = 4
WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")


class Source(Protocol):
    """A file as the index takes it."""

    @property
    def path(self) -> str:
        """Relative to the repository's root."""
        ...

    @property
    def language(self) -> str:
        """The language's name."""
        ...

    @property
    def text(self) -> str:
        """All of it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Some lines of another file, and how well they fit."""

    path: str
    language: str
    first_line: int
    text: str
    score: float = 0.0


def words(text: str) -> list[str]:
    """Identifiers of ``text``, whole and in their parts, lower case."""
    return [word for name in WORD.findall(text) for word in _parts(name)]


@lru_cache(maxsize=65536)
def _parts(name: str) -> tuple[str, ...]:
    parts = tuple(part.lower() for part in PART.findall(name) if len(part) > 1)
    whole = name.lower()
    return (whole, *parts) if parts != (whole,) else (whole,)


class RepositoryIndex:
    """Chunks of a repository's files, searchable. Immutable; building takes about 1 s a MB."""

    def __init__(self, sources: Iterable[Source]) -> None:
        self._chunks = [chunk for source in sources for chunk in _split(source)]
        self._vocabulary: dict[str, int] = {}
        ids = [self._learn(words(chunk.text)) for chunk in self._chunks]
        self._languages = np.array([chunk.language for chunk in self._chunks])
        self._paths = np.array([chunk.path for chunk in self._chunks])
        self._bm25: bm25s.BM25 | None = None
        if any(ids):
            self._bm25 = bm25s.BM25()
            self._bm25.index((ids, self._vocabulary), show_progress=False)

    def __len__(self) -> int:
        return len(self._chunks)

    def search(
        self, before: str, after: str, *, path: str | None, language: str | None, count: int
    ) -> list[Chunk]:
        """The chunks most like the lines around the cursor, best first.

        The line of the cursor itself does not count, so that the answer stays the same (and the
        prompt's KV valid) while a line is typed. No chunk comes from ``path``.
        """
        query = sorted(
            {self._vocabulary[word] for word in _query(before, after) if word in self._vocabulary}
        )
        if self._bm25 is None or not query or count <= 0:
            return []
        scores = self._bm25.get_scores_from_ids(query)
        scores = np.where(self._paths == path, 0.0, scores)
        if language is not None:
            scores = np.where(self._languages == language, scores, 0.0)
        best = np.argsort(-scores, kind="stable")[:count]
        return [
            self._scored(int(index), float(scores[index])) for index in best if scores[index] > 0
        ]

    def _scored(self, index: int, score: float) -> Chunk:
        chunk = self._chunks[index]
        return Chunk(
            path=chunk.path,
            language=chunk.language,
            first_line=chunk.first_line,
            text=chunk.text,
            score=round(score, 3),
        )

    def _learn(self, text: Sequence[str]) -> list[int]:
        return [self._vocabulary.setdefault(word, len(self._vocabulary)) for word in text]


def _query(before: str, after: str) -> list[str]:
    # The cursor's line is taken off first: typing in it must not move what is cut off by length.
    complete = before.rpartition("\n")[0][-4000:].split("\n")[-QUERY_LINES_BEFORE:]
    following = after.partition("\n")[2][:2000].split("\n")[:QUERY_LINES_AFTER]
    return words("\n".join(complete + following))


def _split(source: Source) -> list[Chunk]:
    lines = source.text.split("\n")
    chunks = []
    for first in range(0, len(lines), CHUNK_LINES):
        text = "\n".join(lines[first : first + CHUNK_LINES]).strip("\n")
        if text.strip():
            chunks.append(
                Chunk(path=source.path, language=source.language, first_line=first + 1, text=text)
            )
    return chunks
