"""What is noticed of a tree, taken together: however many events come, a few numbers are kept.

What has changed is for a look to find out; an event only says that there is something to look at.
So a burst of events costs no memory, and one that is lost costs nothing where another one came.
"""

import threading
import time
from dataclasses import dataclass
from pathlib import PurePosixPath

from flex_assist import language
from flex_assist.config import REPOSITORY_FILE
from flex_assist.repository import containers
from flex_assist.repository.filters import VENDORED_FOLDERS
from flex_assist.repository.walk import IGNORE_FILE, METADATA_FOLDERS, Listing

PRUNED = METADATA_FOLDERS | VENDORED_FOLDERS
# They decide what is used.
RULE_FILES = frozenset({".gitignore", IGNORE_FILE, REPOSITORY_FILE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Noticed:
    """What came since it was last asked.

    Attributes:
        last_s: ``time.monotonic()`` of the last event; None without one.
        folders: Whether folders came or went, or events were lost.
    """

    last_s: float | None = None
    events: int = 0
    folders: bool = False


class Notices:
    """Takes events of any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._noticed = Noticed()

    def file(self, path: str) -> None:
        """A file was written, came or went.

        Args:
            path: Relative to the root, with ``/``.
        """
        if may_matter(path):
            self._add(folders=False)

    def folder(self, path: str) -> None:
        """A folder came or went, with whatever is in it."""
        if not is_pruned(path):
            self._add(folders=True)

    def lost(self) -> None:
        """Events may have been missed."""
        self._add(folders=True)

    def take(self) -> Noticed:
        """What came since this was last called."""
        with self._lock:
            found, self._noticed = self._noticed, Noticed()
        return found

    def _add(self, *, folders: bool) -> None:
        with self._lock:
            before = self._noticed
            self._noticed = Noticed(
                last_s=time.monotonic(),
                events=before.events + 1,
                folders=folders or before.folders,
            )


def is_pruned(folder: str) -> bool:
    """Whether nothing below a folder is ever used, by the names on its path."""
    return not PRUNED.isdisjoint(folder.split("/"))


def may_matter(path: str) -> bool:
    """Whether mining could use a file of this name, or goes by what is in it.

    Logs, locks and editors' temporary files must not keep a repository from ever being quiet.
    """
    folder, _, name = path.rpartition("/")
    if is_pruned(folder):
        return False
    pure = PurePosixPath(name)
    return (
        name in RULE_FILES
        or "." not in name
        or language.by_path(pure) is not None
        or containers.kind_of(pure) is not None
    )


def folders_of(listing: Listing) -> frozenset[str]:
    """The folders that hold what mining lists, and those around them; the root is ``""``.

    Folders that ignore rules name are not among them, nor folders of other people's code.
    """
    found = {""}
    for entry in listing.entries:
        if entry.objection is not None and entry.objection.rule == "ignored":
            continue
        folder = entry.path.rpartition("/")[0]
        if is_pruned(folder):
            continue
        while folder not in found:
            found.add(folder)
            folder = folder.rpartition("/")[0]
    return frozenset(found)
