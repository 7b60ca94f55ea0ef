"""Files that a person wants forgotten: no mining takes them again, under this name or another."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flex_assist.errors import DataError
from flex_assist.files import write_json_atomically
from flex_assist.locations import private_directory
from flex_assist.repository.documents import Objection
from flex_assist.repository.reading import TreeReader

FILE_NAME = "forgotten.json"
MAX_BYTES = 64 << 20
# No paths: everything, and what has only its digests here.
WHOLE, OTHERS = ".", ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """What is left out for good.

    Attributes:
        paths: Files and folders, relative to the root; with each the SHA-256 of the texts that
            were known of it, as mining makes them: a file that was moved stays forgotten.
    """

    paths: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @property
    def digests(self) -> frozenset[str]:
        """Of all texts that are forgotten."""
        return frozenset().union(*self.paths.values())

    def has_path(self, path: str) -> bool:
        """Whether ``path``, or a folder it lies in, is forgotten."""
        if not self.paths:
            return False
        if WHOLE in self.paths:
            return True
        parts = path.split("/")
        return any("/".join(parts[:end]) in self.paths for end in range(1, len(parts) + 1))

    def joined(self, path: str, digests: Iterable[str] = ()) -> "Forgotten":
        """This and one more."""
        known = self.paths.get(path, frozenset())
        return Forgotten(paths={**self.paths, path: known | {*digests}})

    def below(self, prefix: str) -> "Forgotten":
        """The same for a folder of the repository.

        Args:
            prefix: Of the folder's paths, ``/`` included.
        """
        whole = self.has_path(prefix.rstrip("/"))
        inside = {
            path.removeprefix(prefix): own
            for path, own in self.paths.items()
            if path.startswith(prefix)
        }
        # Of the others the texts stay forgotten.
        inside[WHOLE if whole else OTHERS] = self.digests
        return Forgotten(paths=inside)

    def united(self, other: "Forgotten") -> "Forgotten":
        """What either leaves out."""
        paths = dict(self.paths)
        for path, own in other.paths.items():
            paths[path] = paths.get(path, frozenset()) | own
        return Forgotten(paths=paths)

    def without(self, paths: Iterable[str]) -> "Forgotten":
        """As if ``paths`` had never been forgotten."""
        gone = {*paths}
        return Forgotten(paths={path: own for path, own in self.paths.items() if path not in gone})


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
        # Never through a link, and no pipe is waited for.
        data = TreeReader(folder).read(FILE_NAME, MAX_BYTES)
        if isinstance(data, Objection):
            if data.rule == "missing":
                return NOTHING
            raise ValueError(data.rule)
        record = json.loads(data)["paths"]
        if not all(isinstance(own, list) for own in record.values()):
            raise ValueError("digests are to be in lists")
        return Forgotten(
            paths={str(name): frozenset(map(str, own)) for name, own in record.items()}
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{path} cannot be read ({error!r}), so it is not known what to leave out; restore it, "
            "or remove it and run `flex-assist adapters forget` again"
        ) from error


def save(forgotten: Forgotten, folder: Path) -> None:
    """Store it, atomically."""
    private_directory(folder)
    record = {path: sorted(digests) for path, digests in forgotten.paths.items()}
    write_json_atomically(folder / FILE_NAME, {"paths": record})
