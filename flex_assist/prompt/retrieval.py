"""Pieces of other files that fit the place of the cursor.

Those whose words are most alike come first (BM25 over chunks of lines): they show how code like
this goes on. Behind them, for what is left of the budget, come the first lines of what defines
symbols near the cursor, those of imported files before others. In front they cost more than they
give; docs/log.md has the measurement.
"""

import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Protocol

import bm25s
import numpy as np
from numpy.typing import NDArray

from flex_assist.language import BY_NAME
from flex_assist.prompt.symbols import ImportTable, definitions

# It sets its own level: editors show what a server writes as errors.
logging.getLogger("bm25s").setLevel(logging.WARNING)

CHUNK_LINES = 12
QUERY_LINES_BEFORE = 12
QUERY_LINES_AFTER = 4
# Definitions of symbols come behind the pieces that are alike, a few lines of each.
MOST_DEFINITIONS = 2
DEFINITION_LINES = 4
# A name that more places define says too little about which of them is meant.
MOST_PLACES = 3
MIN_SYMBOL_CHARACTERS = 4
OWN_TEXT_CHARACTERS = 16_000
DEFINES = "defines "
WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
DEFINED_HERE = re.compile(
    r"\b(?:def|class|func|fun|fn|function|interface|struct|enum|trait|type|const|let|var|val|module"
    r"|#define)\s+(?:\([^)\n]*\)\s*)?([A-Za-z_]\w*)"
)
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
    """Some lines of another file, how well they fit, and why they were chosen."""

    path: str
    language: str
    first_line: int
    text: str
    score: float = 0.0
    why: str = ""


def words(text: str) -> list[str]:
    """Identifiers of ``text``, whole and in their parts, lower case."""
    return [word for name in WORD.findall(text) for word in _parts(name)]


@lru_cache(maxsize=65536)
def _parts(name: str) -> tuple[str, ...]:
    parts = tuple(part.lower() for part in PART.findall(name) if len(part) > 1)
    whole = name.lower()
    return (whole, *parts) if parts != (whole,) else (whole,)


class RepositoryIndex:
    """Chunks of a repository's files, searchable. Immutable; building takes about 0.3 s a MB."""

    def __init__(self, sources: Iterable[Source]) -> None:
        kept = sorted(sources, key=lambda source: source.path)
        self._chunks = [chunk for source in kept for chunk in _split(source)]
        self._vocabulary: dict[str, int] = {}
        ids = [self._learn(words(chunk.text)) for chunk in self._chunks]
        self._languages = np.array([chunk.language for chunk in self._chunks])
        self._paths = np.array([chunk.path for chunk in self._chunks])
        self._language_of = {source.path: source.language for source in kept}
        self._bm25: bm25s.BM25 | None = None
        if any(ids):
            self._bm25 = bm25s.BM25()
            self._bm25.index((ids, self._vocabulary), show_progress=False)
        self._numbers = {
            (chunk.path, (chunk.first_line - 1) // CHUNK_LINES): number
            for number, chunk in enumerate(self._chunks)
        }
        self._imports = ImportTable((source.path, source.language) for source in kept)
        self._places: defaultdict[str, list[Chunk]] = defaultdict(list)
        for source in kept:
            for name, chunk in _defining(source):
                self._places[name].append(chunk)

    def __len__(self) -> int:
        return len(self._chunks)

    def says_the_same_as(self, other: "RepositoryIndex") -> bool:
        """Whether both give the same pieces everywhere: they have the same lines."""
        return self._chunks == other._chunks and self._language_of == other._language_of

    def has(self, chunk: Chunk) -> bool:
        """Whether these very lines are in it, as a piece or as the beginning of a definition."""
        number = self._numbers.get((chunk.path, (chunk.first_line - 1) // CHUNK_LINES))
        alike = [self._chunks[number]] if number is not None else []
        name = chunk.why.removeprefix(DEFINES)
        defining = self._places.get(name, ()) if name != chunk.why else ()
        return any(
            (one.path, one.first_line, one.text) == (chunk.path, chunk.first_line, chunk.text)
            for one in (*alike, *defining)
        )

    def language_of(self, path: str) -> str | None:
        """The language of a file; None if it is not in the index."""
        return self._language_of.get(path)

    def search(
        self, before: str, after: str, *, path: str | None, language: str | None, count: int
    ) -> list[Chunk]:
        """At most ``count`` chunks that are most alike, best first, and definitions behind them.

        The line of the cursor itself does not count, so that the answer stays the same (and the
        prompt's KV valid) while a line is typed. No chunk comes from ``path``.
        """
        if count <= 0:
            return []
        around = _Around.of(before, after)
        imported: frozenset[str] = frozenset()
        if language is not None:
            imported = self._imports.imported(around.complete, path, language)
        defined = self._defined(around, path, language, imported)
        chosen = self._alike(around, path, language, imported, defined, count)
        behind = [one for one in defined if not any(_overlap(one, two) for two in chosen)]
        return chosen + behind[:MOST_DEFINITIONS]

    def _alike(
        self,
        around: "_Around",
        path: str | None,
        language: str | None,
        imported: frozenset[str],
        defined: Sequence[Chunk],
        count: int,
    ) -> list[Chunk]:
        query = sorted({self._vocabulary[w] for w in words(around.near()) if w in self._vocabulary})
        if self._bm25 is None or not query:
            return []
        scores: NDArray[np.float32] = self._bm25.get_scores_from_ids(query)
        scores = np.where(self._paths == path, 0.0, scores)
        if language is not None:
            scores = np.where(self._languages == language, scores, 0.0)
        reasons = {
            self._numbers[one.path, (one.first_line - 1) // CHUNK_LINES]: one.why for one in defined
        }
        best = np.argsort(-scores, kind="stable")[:count]
        return [
            replace(
                self._chunks[index],
                score=round(float(scores[index]), 3),
                why=reasons.get(index, self._why(index, imported)),
            )
            for index in map(int, best)
            if scores[index] > 0
        ]

    def _why(self, index: int, imported: frozenset[str]) -> str:
        return "imported" if self._chunks[index].path in imported else "alike"

    def _defined(
        self, around: "_Around", path: str | None, language: str | None, imported: frozenset[str]
    ) -> list[Chunk]:
        """What defines symbols near the cursor: of imported files first, rare names, near ones."""
        here = around.defined_here()
        ranked = []
        for nearness, name in enumerate(around.symbols()):
            places = [
                chunk
                for chunk in self._places.get(name, ())
                if chunk.path != path and (language is None or chunk.language == language)
            ]
            if name not in here and 0 < len(places) <= MOST_PLACES:
                ranked += [
                    (chunk.path not in imported, len(places), nearness, chunk.path,
                     chunk.first_line, replace(chunk, why=f"{DEFINES}{name}"))
                    for chunk in places
                ]  # fmt: skip
        ranked.sort(key=lambda one: one[:-1])
        found: list[Chunk] = []
        for *_, chunk in ranked:
            if not any(_overlap(chunk, one) for one in found):
                found.append(chunk)
        return found

    def _learn(self, text: Sequence[str]) -> list[int]:
        return [self._vocabulary.setdefault(word, len(self._vocabulary)) for word in text]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Around:
    """The text around a cursor without its line.

    Attributes:
        complete: The lines above.
        above: The nearest of them.
        below: The nearest lines below.
    """

    complete: str
    above: tuple[str, ...]
    below: tuple[str, ...]

    @classmethod
    def of(cls, before: str, after: str) -> "_Around":
        # The cursor's line is taken off first: typing in it must not move what is cut by length.
        complete = before.rpartition("\n")[0]
        return cls(
            complete=complete,
            above=tuple(complete[-4000:].split("\n")[-QUERY_LINES_BEFORE:]),
            below=tuple(after.partition("\n")[2][:2000].split("\n")[:QUERY_LINES_AFTER]),
        )

    def near(self) -> str:
        return "\n".join(self.above + self.below)

    def symbols(self) -> list[str]:
        """Names in the lines, the nearest first, each once."""
        names = (name for line in (*reversed(self.above), *self.below) for name in _names(line))
        return list(dict.fromkeys(names))

    def defined_here(self) -> frozenset[str]:
        """Names that the file seems to define itself."""
        return frozenset(DEFINED_HERE.findall(self.complete[-OWN_TEXT_CHARACTERS:]))


def _names(line: str) -> Iterator[str]:
    return (name for name in WORD.findall(line) if len(name) >= MIN_SYMBOL_CHARACTERS)


def _overlap(one: Chunk, two: Chunk) -> bool:
    if one.path != two.path:
        return False
    first, second = sorted((one, two), key=lambda chunk: chunk.first_line)
    return second.first_line <= first.first_line + first.text.count("\n")


def _defining(source: Source) -> Iterator[tuple[str, Chunk]]:
    """Names that a file defines, each with the beginning of what defines it."""
    language = BY_NAME.get(source.language)
    if language is None:
        return
    lines = source.text.split("\n")
    for found in definitions(source.text, language):
        if len(found.name) >= MIN_SYMBOL_CHARACTERS:
            last = min(found.last_line + 1, found.first_line + DEFINITION_LINES)
            text = "\n".join(lines[found.first_line : last])
            yield (
                found.name,
                Chunk(
                    path=source.path, language=source.language,
                    first_line=found.first_line + 1, text=text,
                ),
            )  # fmt: skip


def _split(source: Source) -> list[Chunk]:
    lines = source.text.split("\n")
    chunks = []
    for first in range(0, len(lines), CHUNK_LINES):
        whole = "\n".join(lines[first : first + CHUNK_LINES])
        text = whole.lstrip("\n")
        above = len(whole) - len(text)
        if text.strip():
            chunks.append(
                Chunk(
                    path=source.path, language=source.language, first_line=first + 1 + above,
                    text=text.rstrip("\n"),
                )
            )  # fmt: skip
    return chunks
