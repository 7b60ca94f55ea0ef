"""What the repository adds to a prompt: pieces of its other files."""

import asyncio
import itertools
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from flex_assist.adapters import left_out
from flex_assist.complete import edits, freshness
from flex_assist.complete.edits import EditedSpan
from flex_assist.complete.freshness import Freshness
from flex_assist.config import Settings
from flex_assist.errors import DataError
from flex_assist.language import Language
from flex_assist.locations import Locations

if TYPE_CHECKING:
    from flex_assist.prompt.retrieval import Chunk, RepositoryIndex


_log = logging.getLogger(__name__)

# So far from where they were looked for, pieces are looked for again.
STEADY_LINES = 16
# The pieces stay while one of so many that fit best now is among them.
STEADY_AMONG = 2
PLACES_HELD = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where somebody types: ``below`` tells the texts below the cursor's line from each other."""

    path: str | None
    language: str | None
    below: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """Pieces, and the line of the cursor when they were looked for."""

    line: int
    chunks: "tuple[Chunk, ...]"

    def fits(self, found: "Sequence[Chunk]") -> bool:
        """Whether some of what fits best now is among them."""
        own = {(chunk.path, chunk.first_line) for chunk in self.chunks}
        best = found[:STEADY_AMONG]
        return any((chunk.path, chunk.first_line) in own for chunk in best) or not (best or own)


class RepositoryContext:
    """The index of one repository, built in the background.

    Files that mining leaves out (ignored, generated, with a secret) are not in it. Now and then it
    is looked whether the files are still the same: see ``freshness``.

    Args:
        index: Use this one, as it is, e.g. of the training part only while something is measured.
        locations: Where it is written what a person wants forgotten.
    """

    def __init__(
        self,
        root: Path | None,
        settings: Settings,
        index: "RepositoryIndex | None" = None,
        locations: Locations | None = None,
    ) -> None:
        self._locations = locations
        self._root = root.resolve() if root is not None else None
        self._settings = settings
        self._index = index
        self._fresh = Freshness()
        self._loading: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._version = 0
        self._held: OrderedDict[_Place, _Held] = OrderedDict()
        self._line: tuple[_Place, int, list[Chunk]] | None = None

    @property
    def version(self) -> Hashable:
        """Another one whenever the same cursor may get other pieces than before."""
        return self._version

    def relative(self, path: str | None) -> str | None:
        """``path`` relative to the root where it lies in it, as the samples of training say it."""
        if path is None or self._root is None:
            return path
        pure = PurePath(path)
        if not pure.is_absolute():
            return pure.as_posix()
        real = Path(path).resolve()
        return real.relative_to(self._root).as_posix() if real.is_relative_to(self._root) else path

    async def load(self) -> None:
        """Build the index if there is none, and wait for it."""
        if self._index is None and self._wanted():
            if self._loading is None:
                self._loading = asyncio.create_task(self._build())
            await asyncio.shield(self._loading)

    def forget(self) -> None:
        """Build the index anew when it is next wanted."""
        self._index, self._loading = None, None
        self._fresh = Freshness()
        self._held.clear()
        self._changed()

    async def chunks(
        self,
        before: str,
        after: str,
        path: str | None,
        language: Language | None,
        edited: Sequence[EditedSpan] = (),
    ) -> "list[Chunk]":
        """Pieces of other files that fit the cursor; none while the index is being built.

        Args:
            edited: Spans that were edited last; the newest of them come behind the others.
        """
        if self._index is None:
            if self._wanted() and self._loading is None:
                self._loading = asyncio.create_task(self._build())
            return []
        self._look_again(path)
        name = language.name if language else None
        count = self._settings.prompt.retrieval_chunks
        above, below = before.rpartition("\n")[0], after.partition("\n")[2]
        place = _Place(path=path, language=name, below=hash(below))
        # The cursor's own line does not count: the answer is the same while it is typed.
        if self._line is None or self._line[:2] != (place, hash(above)):
            found = self._index.search(before, after, path=path, language=name, count=count)
            found = [chunk for chunk in found if chunk.path not in self._fresh.gone]
            chosen = self._steady(place, before.count("\n"), found)
            self._line = (place, hash(above), chosen)
        spans = (span for span in edited if span.path not in self._fresh.gone)
        known = edits.pieces(spans, self._index, path=path, language=name)
        return [*self._line[2], *itertools.islice(known, self._settings.prompt.edited_spans)]

    def _changed(self) -> None:
        self._version += 1
        self._line = None

    def _steady(self, place: "_Place", line: int, found: "list[Chunk]") -> "list[Chunk]":
        """The pieces that a place has, while they still fit well.

        Prompts begin with them: other ones, or another order, cost a prefill of everything.
        """
        held = self._held.pop(place, None)
        if held is None or abs(line - held.line) > STEADY_LINES or not held.fits(found):
            held = _Held(line=line, chunks=tuple(found))
        self._held[place] = held
        if len(self._held) > PLACES_HELD:
            self._held.popitem(last=False)
        return list(held.chunks)

    def _wanted(self) -> bool:
        prompt = self._settings.prompt
        return self._root is not None and prompt.retrieval_tokens * prompt.retrieval_chunks > 0

    def _look_again(self, path: str | None) -> None:
        """In the background, now and then: are the files still what the index says?"""
        looking = self._looking is not None and not self._looking.done()
        if self._fresh.look_is_due and not looking:
            self._looking = asyncio.create_task(self._look(self._fresh, path))

    async def _look(self, fresh: Freshness, path: str | None) -> None:
        files, took_s = await self._files()
        if fresh is not self._fresh:
            return
        gone = fresh.gone
        index_again = fresh.looked(files, took_s, path)
        if fresh.gone != gone:
            self._keep_held(lambda chunk: chunk.path not in fresh.gone)
            self._changed()
        if index_again:
            await self._read(fresh, files, took_s)

    async def _files(self) -> tuple[dict[str, freshness.State], float]:
        """The files that may be read, and how many seconds it took to look."""
        assert self._root is not None
        started_s = time.monotonic()
        try:
            files = await asyncio.to_thread(
                freshness.readable, self._root, self._settings, self._locations
            )
        except OSError as error:
            _log.warning("the files of the repository cannot be listed: %s", error)
            files = {}
        return files, time.monotonic() - started_s

    def _keep_held(self, holds: "Callable[[Chunk], bool]") -> None:
        for place, held in list(self._held.items()):
            if not all(map(holds, held.chunks)):
                del self._held[place]

    async def _build(self) -> None:
        fresh = self._fresh
        await self._read(fresh, *await self._files())

    async def _read(
        self, fresh: Freshness, files: dict[str, freshness.State], looked_s: float
    ) -> None:
        """Index the repository.

        Args:
            files: What it has, looked at before: what changes meanwhile is noticed later.
            looked_s: What looking took.
        """
        assert self._root is not None
        started_s = time.monotonic()
        index = await asyncio.to_thread(build_index, self._root, self._settings, self._locations)
        if fresh is not self._fresh:
            # What was read is to be forgotten already.
            return
        fresh.indexed(files, looked_s, time.monotonic() - started_s)
        if self._index is not None and self._index.says_the_same_as(index):
            # What is known and under way stays right.
            return
        self._index = index
        # What says the same as before stays where it is.
        self._keep_held(index.has)
        self._changed()


def build_index(
    root: Path, settings: Settings, locations: Locations | None = None
) -> "RepositoryIndex":
    """Read the repository's own source files and index them. Takes about 0.4 s a MB."""
    # Imported here: front ends start without numpy.
    from flex_assist.prompt.retrieval import RepositoryIndex
    from flex_assist.repository.snapshot import read_documents

    try:
        documents = read_documents(root, settings.mining, left_out.of(root, locations))
    except DataError:
        documents = ()
    return RepositoryIndex(documents)
