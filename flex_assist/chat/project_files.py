"""The files that a message may name, and the search among them while one types."""

import time
from collections.abc import Sequence
from pathlib import Path

from rapidfuzz import fuzz, process

from flex_assist.repository.walk import list_repository

FRESH_S = 10.0
MAX_MATCHES = 8
# Below this, rapidfuzz's partial ratio pairs words that have little in common.
LOWEST_SCORE = 82.0


class ProjectFiles:
    """The repository's files without what it ignores; the list is at most some seconds old."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._paths: tuple[str, ...] = ()
        self._read_at = -FRESH_S

    def paths(self) -> tuple[str, ...]:
        """Paths relative to the root, with ``/``, sorted.

        Raises:
            DataError: The repository cannot be listed.
        """
        if time.monotonic() - self._read_at >= FRESH_S:
            listing = list_repository(self._root)
            self._paths = tuple(entry.path for entry in listing.entries if not entry.objection)
            self._read_at = time.monotonic()
        return self._paths

    def complete(self, typed: str) -> list[str]:
        """The files that a person who typed ``typed`` may mean, the likeliest first."""
        return best_matches(typed, self.paths())


def best_matches(typed: str, paths: Sequence[str], limit: int = MAX_MATCHES) -> list[str]:
    """Paths that ``typed`` may mean: by the file's name first, then the path, then by likeness."""
    wanted = typed.casefold()
    ranked = [(rank, path) for path in paths if (rank := _rank(wanted, path)) is not None]
    ranked.sort(key=lambda pair: (*pair[0], pair[1]))
    found = [path for _, path in ranked[:limit]]
    if len(found) < limit and len(wanted) >= 3:
        taken = set(found)
        rest = [path for path in paths if path not in taken]
        alike = process.extract(
            wanted,
            rest,
            scorer=fuzz.partial_ratio,
            processor=str.casefold,
            limit=limit - len(found),
            score_cutoff=LOWEST_SCORE,
        )
        found += [path for path, _, _ in alike]
    return found


def _rank(wanted: str, path: str) -> tuple[int, int] | None:
    folded = path.casefold()
    name = folded.rsplit("/", 1)[-1]
    if name.startswith(wanted):
        return 0, len(path)
    if folded.startswith(wanted):
        return 1, len(path)
    if wanted in name:
        return 2, len(path)
    if wanted in folded:
        return 3, len(path)
    return None
