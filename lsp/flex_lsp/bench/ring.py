"""llama.vim's pieces of other places: a ring of chunks that are put before the prompt."""

import random
import time
from typing import Final

CHUNKS, CHUNK_LINES = 16, 64
SCOPE_LINES, PREFIX_LINES, SUFFIX_LINES = 1024, 256, 64
QUEUED, MOVED_LINES = 16, 32
SAME, LIKE = 0.9, 0.5
IDLE_S: Final = 3.0


class Ring:
    """Chunks in use, and those that wait until nobody types."""

    update_s: Final = 1.0

    def __init__(self, rng: random.Random) -> None:
        self._random = rng
        self._chunks: list[tuple[list[str], str]] = []
        self._queued: list[tuple[list[str], str]] = []
        self._row_picked = -9999
        self._moved_s = time.perf_counter()

    def moved(self) -> None:
        """A key was pressed."""
        self._moved_s = time.perf_counter()

    def texts(self) -> list[tuple[str, str]]:
        """Path and text of the chunks in use."""
        return [(path, "\n".join(lines) + "\n") for lines, path in self._chunks]

    def take(self) -> bool:
        """Use the next chunk that waits, if nobody typed for a while; whether there was one."""
        if not self._queued or time.perf_counter() - self._moved_s < IDLE_S:
            return False
        if len(self._chunks) == CHUNKS:
            del self._chunks[0]
        self._chunks.append(self._queued.pop(0))
        return True

    def pick(self, lines: list[str], row: int, path: str) -> None:
        """Queue a chunk from around a row."""
        self._queue(_around(lines, row), path)

    def gather(self, lines: list[str], row: int, path: str) -> None:
        """Where the cursor went far: queue what the prompt does not reach."""
        if abs(row - self._row_picked) <= MOVED_LINES:
            return
        self._queue(lines[max(0, row - SCOPE_LINES) : max(0, row - PREFIX_LINES) + 1], path)
        below = row + SUFFIX_LINES
        self._queue(lines[below : below + CHUNK_LINES + 1], path)
        self._row_picked = row

    def drop_like(self, lines: list[str], row: int) -> None:
        """Chunks that are much like the text at the cursor would only be repeated."""
        here = self._cut(_around(lines, row))
        self._chunks = [one for one in self._chunks if _likeness(one[0], here) <= LIKE]

    def _queue(self, lines: list[str], path: str) -> None:
        if len(lines) < 3:
            return
        chunk = lines if len(lines) + 1 < CHUNK_LINES else self._cut(lines)
        if any(one[0] == chunk for one in (*self._chunks, *self._queued)):
            return
        self._queued = [one for one in self._queued if _likeness(one[0], chunk) <= SAME]
        self._chunks = [one for one in self._chunks if _likeness(one[0], chunk) <= SAME]
        self._queued = [*self._queued[-(QUEUED - 1) :], (chunk, path)]

    def _cut(self, lines: list[str]) -> list[str]:
        half = CHUNK_LINES // 2
        start = self._random.randint(0, max(0, len(lines) - half))
        return lines[start : start + half + 1]


def _around(lines: list[str], row: int) -> list[str]:
    half = CHUNK_LINES // 2
    return lines[max(0, row - half) : row + half + 1]


def _likeness(left: list[str], right: list[str]) -> float:
    known = set(right)
    return 2.0 * sum(line in known for line in left) / max(1, len(left) + len(right))
