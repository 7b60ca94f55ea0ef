"""Whether what is known of a repository's files still holds.

Looking again costs time that somebody types in: it may take a share of the time that passes.
"""

import contextlib
import math
import time
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Final

from flex_assist import language
from flex_assist.adapters import left_out
from flex_assist.config import Settings
from flex_assist.errors import DataError
from flex_assist.files import state
from flex_assist.locations import Locations
from flex_assist.repository import containers
from flex_assist.repository.walk import list_repository

LOOK_EVERY_S: Final = 20.0
# Of the time that passes, at most so much is spent on looking, and as much on indexing again.
SHARE: Final = 0.02

# See ``files.state``.
State = tuple[int, int, int]


def readable(root: Path, settings: Settings, locations: Locations | None) -> dict[str, State]:
    """The files that may be read, by path; none where nobody can say which these are."""
    found: dict[str, State] = {}
    try:
        gone = left_out.of(root, locations)
        entries = list_repository(root, submodules=settings.mining.submodules).entries
    except DataError:
        return found
    for entry in entries:
        if entry.objection is None and not gone.has_path(entry.path):
            with contextlib.suppress(OSError):
                found[entry.path] = state(root / entry.path)
    return found


class Freshness:
    """What was indexed, what has become of it, and when to look again. For one thread.

    Attributes:
        gone: Files that were indexed and are there no more, or are not to be read any more.
    """

    def __init__(self) -> None:
        self.gone: frozenset[str] = frozenset()
        self._indexed: Mapping[str, State] = {}
        # Where nothing was indexed, there is nothing to look after.
        self._look_due_s = self._index_due_s = math.inf

    @property
    def look_is_due(self) -> bool:
        """Whether to look at the files again."""
        return time.monotonic() >= self._look_due_s

    def indexed(self, files: Mapping[str, State], looked_s: float, took_s: float) -> None:
        """These files were indexed.

        Args:
            looked_s: What looking at them took.
            took_s: What indexing took.
        """
        self.gone, self._indexed = frozenset(), files
        now_s = time.monotonic()
        self._look_due_s = now_s + max(LOOK_EVERY_S, looked_s / SHARE)
        self._index_due_s = now_s + took_s / SHARE

    def looked(self, files: Mapping[str, State], took_s: float, path: str | None) -> bool:
        """This is what there is now: gives whether to index it again.

        Args:
            path: The file that is typed in; it gives no pieces to itself, so that alone it is no
                reason.
        """
        now_s = time.monotonic()
        self._look_due_s = now_s + max(LOOK_EVERY_S, took_s / SHARE)
        self.gone = frozenset(self._indexed.keys() - files.keys())
        changed = {one for one, _ in files.items() ^ self._indexed.items()} - {path}
        return now_s >= self._index_due_s and any(map(_may_be_source, changed))


def _may_be_source(path: str) -> bool:
    """Whether a file may give pieces, by its name; a log does not."""
    named = language.by_path(path) or containers.kind_of(path)
    # A script may have no ending.
    return named is not None or not PurePath(path).suffix
