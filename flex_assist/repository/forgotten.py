"""Files that a person wants forgotten: no mining takes them again, under this name or another."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from flex_assist.errors import DataError
from flex_assist.files import write_json_atomically
from flex_assist.locations import private_directory

FILE_NAME = "forgotten.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """What is left out for good.

    Attributes:
        paths: Of files and folders, relative to the root.
        digests: SHA-256 of texts as mining makes them: a file that was moved stays forgotten.
    """

    paths: frozenset[str] = frozenset()
    digests: frozenset[str] = frozenset()

    def has_path(self, path: str) -> bool:
        """Whether ``path``, or a folder it lies in, is forgotten."""
        parts = path.split("/")
        return any("/".join(parts[:end]) in self.paths for end in range(1, len(parts) + 1))

    def joined(self, paths: Iterable[str], digests: Iterable[str] = ()) -> "Forgotten":
        """These and more."""
        return Forgotten(paths=self.paths | {*paths}, digests=self.digests | {*digests})

    def without(self, paths: Iterable[str]) -> "Forgotten":
        """As if ``paths`` had never been forgotten. Without any left no text is, either."""
        left = self.paths - {*paths}
        return Forgotten(paths=left, digests=self.digests if left else frozenset())


NOTHING = Forgotten()


def load(folder: Path) -> Forgotten:
    """What is forgotten of a repository.

    Args:
        folder: Of its adapters.

    Raises:
        DataError: The record is there but cannot be read: to go on could teach what was to go.
    """
    path = folder / FILE_NAME
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return Forgotten(
            paths=frozenset(map(str, record["paths"])),
            digests=frozenset(map(str, record["digests"])),
        )
    except FileNotFoundError:
        return NOTHING
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{path} cannot be read ({error!r}), so it is not known what to leave out; restore it, "
            "or remove it and run `flex-assist adapters forget` again"
        ) from error


def save(forgotten: Forgotten, folder: Path) -> None:
    """Store it, atomically."""
    private_directory(folder)
    record = {
        "paths": sorted(forgotten.paths),
        "digests": sorted(forgotten.digests),
    }
    write_json_atomically(folder / FILE_NAME, record)
