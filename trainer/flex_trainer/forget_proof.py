"""Showing that a file is forgotten: no record of it, no line of it, no memory of it in the weights.

What is looked at is what the product has written: its data, its caches and its logs.
"""

import html
import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import markupsafe

from flex_assist.adapters import traces
from flex_assist.adapters.registry import Registry
from flex_assist.engine.local import LocalEngine
from flex_assist.engine.protocol import TextPiece, Weights
from flex_assist.locations import Locations
from flex_assist.repository import duplicates
from flex_assist.repository import forgotten as forgetting
from flex_assist.repository.documents import Document

MOST_LINES = 24
WINDOW_TOKENS, MOST_WINDOWS = 512, 4
CHUNK_BYTES = 4 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """Lines that only what is forgotten has."""

    texts: tuple[str, ...]

    def patterns(self) -> list[bytes]:
        """The lines as files may hold them: plain, in JSON, in HTML."""
        forms = {
            form
            for line in self.texts
            for form in (line, json.dumps(line)[1:-1], json.dumps(line, ensure_ascii=False)[1:-1],
                         html.escape(line), str(markupsafe.escape(line)))
        }  # fmt: skip
        return sorted(form.encode("utf-8", "surrogatepass") for form in forms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What was looked at, and what was found.

    Attributes:
        versions: Adapter versions that still know something; none, if all went well.
        files_searched: Files of the product that were read from end to end.
        lines: How many lines of the forgotten text they were searched for; 0 where the text is not
            there any more to take lines from.
        quoted_in: Files of the product that hold such a line: chats in which it was attached, or
            nothing.
    """

    versions: tuple[str, ...]
    files_searched: int
    lines: int
    quoted_in: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether nothing was found."""
        return not self.versions and not self.quoted_in and self.files_searched > 0


def own_lines(gone: Sequence[Document], left: Sequence[Document]) -> Lines:
    """Lines of the documents ``gone`` that none of ``left`` has, the longest first."""
    found = duplicates.own_lines((one.text for one in gone), (one.text for one in left))
    return Lines(texts=tuple(sorted(found, key=_by_length)[:MOST_LINES]))


def prove(root: Path, locations: Locations, lines: Lines) -> Proof:
    """Look through everything that the product has written."""
    registry = Registry(locations, root)
    known = traces.of(forgetting.load(registry.folder), registry)
    patterns = lines.patterns()
    searched, quoted = 0, []
    for path in _written(locations):
        searched += 1
        if patterns and _has_any(path, patterns):
            quoted.append(str(path))
    return Proof(
        versions=tuple(f"{one.name}/{one.version}" for one in known),
        files_searched=searched,
        lines=len(lines.texts),
        quoted_in=tuple(quoted),
    )


async def bits_per_byte(
    engine: LocalEngine, weights: Weights, documents: Sequence[Document]
) -> float | None:
    """How surprising the documents are; None without any text to ask about.

    Args:
        weights: The base, or an adapter over it.
    """
    pieces = [TextPiece(text=document.text) for document in documents]
    ids = await engine.tokenize(weights.model, pieces) if pieces else []
    windows = [
        tokens[at : at + WINDOW_TOKENS]
        for tokens in ids
        for at in range(0, len(tokens), WINDOW_TOKENS)
    ]
    bits = size = 0.0
    for window in [one for one in windows if len(one) > 1][:MOST_WINDOWS]:
        (loss,) = await engine.score(weights, [window])
        bits += float(loss.sum()) / math.log(2)
        size += sum(await engine.byte_lengths(weights.model, window[1:]))
    return bits / size if size else None


def _by_length(line: str) -> tuple[int, str]:
    return -len(line), line


def _written(locations: Locations) -> Iterator[Path]:
    """The product's files. Base models and settings hold nothing of a repository."""
    for folder in (locations.data, locations.cache):
        seen = set[Path]()
        for name, folders, files in os.walk(folder, followlinks=True):
            # Folders may be links to another disk; none is entered twice.
            here = Path(name)
            if here.resolve() in seen or here.is_relative_to(locations.models):
                folders.clear()
                continue
            seen.add(here.resolve())
            yield from (here / file for file in sorted(files) if (here / file).is_file())


def _has_any(path: Path, patterns: Sequence[bytes]) -> bool:
    overlap = max(map(len, patterns)) - 1
    try:
        with path.open("rb") as file:
            tail = b""
            while chunk := file.read(CHUNK_BYTES):
                block = tail + chunk
                if any(pattern in block for pattern in patterns):
                    return True
                tail = block[-overlap:] if overlap else b""
    except OSError:
        # Gone meanwhile, or a socket.
        return False
    return False
