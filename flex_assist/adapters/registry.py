"""Adapter versions on disk: ``<adapters>/<repository>/<name>/<version>/``.

A version folder appears by one rename and is never changed afterwards. The active version of a
name is the text of one small file, ``active``, replaced atomically. A version that is to go is
renamed away first. So a process that is killed at any moment leaves either the old state or the new
one, and readers need no lock; those who change something hold one, for as long as a rename takes.
"""

import re
import secrets
import shutil
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from flex_assist.adapters import integrity
from flex_assist.adapters import manifest as manifests
from flex_assist.adapters.manifest import LORA_GGUF, MERGED_GGUF, REPORT_HTML, Manifest
from flex_assist.errors import ConfigError, DataError
from flex_assist.files import write_text_atomically
from flex_assist.locations import Locations, private_directory, repository_id
from flex_assist.locks import exclusive

POINTER = "active"
STAGING, TRASH = ".staging-", ".trash-"
# Who changes something waits so long for others who do: deleting takes a moment.
CHANGE_WAIT_S = 60.0
PROMOTED = "promoted"
# Of a version that was trained elsewhere.
IMPORTED = "imported"
VERSION = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{4}", re.ASCII)
VERSION_TIME = "%Y%m%dT%H%M%SZ"
NAME = re.compile(r"[a-z][a-z0-9_+#-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterVersion:
    """A complete version folder."""

    folder: Path
    manifest: Manifest

    @property
    def lora(self) -> Path:
        """The LoRA GGUF file."""
        return self.folder / LORA_GGUF

    @property
    def merged(self) -> Path | None:
        """The merged GGUF file, if there is one and it is whole."""
        wrong = integrity.fault(self.folder, self.manifest, MERGED_GGUF)
        return None if wrong else self.folder / MERGED_GGUF

    @property
    def report(self) -> Path | None:
        """The report for people, if there is one."""
        path = self.folder / REPORT_HTML
        return path if path.is_file() else None


class Registry:
    """The adapters of one repository."""

    def __init__(self, locations: Locations, root: Path) -> None:
        self.folder = locations.adapters / repository_id(root)

    @classmethod
    def at(cls, folder: Path) -> "Registry":
        """The registry in a folder, of whatever repository it is."""
        found = cls.__new__(cls)
        found.folder = folder
        return found

    def pointer(self, name: str) -> Path:
        """The file that names the active version."""
        return self.folder / name / POINTER

    @property
    def lock_file(self) -> Path:
        """Held while a run writes here."""
        return self.folder / "adapt.lock"

    def changing(self) -> AbstractContextManager[None]:
        """Held while versions or pointers change; not to be taken twice by one thread."""
        what = f"the adapters in {str(self.folder)!r}"
        return exclusive(self.folder / "registry.lock", what=what, wait_s=CHANGE_WAIT_S)

    def names(self) -> list[str]:
        """Adapter names with at least one version, sorted."""
        if not self.folder.is_dir():
            return []
        return sorted(path.name for path in self.folder.iterdir() if self.version_names(path.name))

    def folders(self) -> list[tuple[str, str]]:
        """Name and version of each version's folder, readable or not."""
        if not self.folder.is_dir():
            return []
        names = sorted(path.name for path in self.folder.iterdir())
        return [(name, version) for name in names for version in self.version_names(name)]

    def versions(self, name: str) -> list[AdapterVersion]:
        """All readable versions of ``name``, oldest first."""
        found = []
        for version in self.version_names(name):
            try:
                found.append(self.get(name, version))
            except DataError:
                continue
        return found

    def get(self, name: str, version: str) -> AdapterVersion:
        """One version.

        Raises:
            DataError: There is no such version, or it cannot be read.
        """
        folder = self.folder / name / version
        known = NAME.fullmatch(name) and VERSION.fullmatch(version)
        if not known or not folder.is_dir():
            raise DataError(f"there is no version {version!r} of the adapter {name!r}")
        manifest = manifests.read(folder)
        if (manifest.name, manifest.version) != (name, version):
            raise DataError(
                f"{str(folder)!r} holds the manifest of {manifest.name}/{manifest.version}; remove "
                f"it with `flex-assist adapters remove {name}/{version}`"
            )
        return AdapterVersion(folder=folder, manifest=manifest)

    def active(self, name: str) -> AdapterVersion | None:
        """The active version of ``name``; None without one or if it cannot answer."""
        found = self._pointed(name)
        return found if isinstance(found, AdapterVersion) else None

    def fault(self, name: str) -> str | None:
        """Why the version of ``name`` that is to be active cannot answer; None if it can."""
        found = self._pointed(name)
        return found if isinstance(found, str) else None

    def _pointed(self, name: str) -> AdapterVersion | str | None:
        """The version that the pointer names, or what is wrong; None without a pointer."""
        version = self.active_version(name)
        if version is None:
            unreadable = NAME.fullmatch(name) and (self.folder / name / POINTER).exists()
            return "its pointer cannot be read" if unreadable else None
        try:
            found = self.get(name, version)
        except DataError as error:
            return str(error)
        wrong = integrity.fault(found.folder, found.manifest)
        return found if wrong is None else wrong

    def active_version(self, name: str) -> str | None:
        """What the pointer of ``name`` says, whether or not it can be used."""
        if not NAME.fullmatch(name):
            return None
        try:
            return (self.folder / name / POINTER).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return None

    def is_damaged(self, name: str) -> bool:
        """Whether a version of ``name`` is to be active and cannot be used."""
        return self.fault(name) is not None

    def activate(self, name: str, version: str) -> AdapterVersion:
        """Make a version the one that answers. One atomic replacement of the pointer.

        Raises:
            DataError: There is no such version, or it is not what was published.
        """
        with self.changing():
            found = self.checked(name, version)
            self._point(name, version)
        return found

    def checked(self, name: str, version: str) -> AdapterVersion:
        """A version, all its files compared with their digests.

        Raises:
            DataError: There is no such version, or it is not what was published.
        """
        found = self.get(name, version)
        if wrong := integrity.faults(found.folder, found.manifest):
            raise DataError(
                f"the version {version!r} of {name!r} is damaged: {'; '.join(wrong)}; remove it "
                f"with `flex-assist adapters remove {name}/{version}` and take another one"
            )
        return found

    def roll_back(self, name: str) -> AdapterVersion:
        """Make the newest promoted version before the active one answer; damaged ones are passed.

        Where the active one was never promoted (it was imported, or activated by hand), the newest
        promoted one.

        Raises:
            DataError: There is none, or no version is active.
        """
        with self.changing():
            now = self.active_version(name)
            if now is None:
                raise DataError(
                    f"no version of {name!r} is active; name one: `flex-assist adapters activate "
                    f"{name}/VERSION`"
                )
            active = self.active(name)
            by_hand = active is not None and active.manifest.verdict != PROMOTED
            found = self.last_good(name) if by_hand else self.last_good(name, before=now)
            if found is None:
                raise DataError(
                    f"there is no promoted version of {name!r} before {now!r}; to let the base "
                    f"answer, remove it: `flex-assist adapters remove {name}/{now}`"
                )
            self._point(name, found.manifest.version)
        return found

    def last_good(self, name: str, before: str = "~") -> AdapterVersion | None:
        """The newest promoted version, whole, of those whose names come before ``before``."""
        for found in reversed(self.versions(name)):
            earlier = found.folder.name < before and found.manifest.verdict == PROMOTED
            if earlier and not integrity.faults(found.folder, found.manifest):
                return found
        return None

    def mend(self, name: str) -> AdapterVersion | None:
        """Where the pointer's version is not whole: the last good one before it, or the base.

        One after it was rolled back, or is tried by nobody yet. Gives the version that answers now.
        """
        with self.changing():
            # It may have been mended since somebody looked.
            whole = self.active(name)
            if whole is not None and not integrity.faults(whole.folder, whole.manifest):
                return whole
            pointed = self.active_version(name)
            known = pointed is not None and VERSION.fullmatch(pointed) is not None
            found = self.last_good(name, before=str(pointed)) if known else self.last_good(name)
            if found is None:
                self._unpoint(name)
            else:
                self._point(name, found.manifest.version)
        return found

    def remove(self, name: str, version: str) -> None:
        """Delete a version, readable or not; the base answers again where it was active."""
        with self.changing():
            if not NAME.fullmatch(name) or version not in self.version_names(name):
                raise DataError(f"there is no version {version!r} of the adapter {name!r}")
            if self.active_version(name) == version:
                self._unpoint(name)
            self.discard(name, version)

    def discard(self, name: str, version: str) -> None:
        """Delete a version's folder: at once out of sight, then file by file. Under the lock."""
        _throw_away(self.folder / name / version)

    def deactivate(self, name: str) -> None:
        """Let the base answer for ``name`` again."""
        if NAME.fullmatch(name) and self.folder.is_dir():
            with self.changing():
                self._unpoint(name)

    def _point(self, name: str, version: str) -> None:
        self._clear_folder(name)
        write_text_atomically(self.folder / name / POINTER, version + "\n")

    def _unpoint(self, name: str) -> None:
        self._clear_folder(name)
        (self.folder / name / POINTER).unlink(missing_ok=True)

    def _clear_folder(self, name: str) -> None:
        """Where somebody made a folder in the pointer's place, neither of the two could be done."""
        pointer = self.folder / name / POINTER
        if pointer.is_dir() and not pointer.is_symlink():
            _throw_away(pointer)

    def stage(self, name: str) -> Path:
        """A new private folder for a version that is being written."""
        if not NAME.fullmatch(name):
            raise ConfigError(f"{name!r} cannot be an adapter's name")
        parent = private_directory(self.folder / name)
        folder = parent / f"{STAGING}{secrets.token_hex(4)}"
        folder.mkdir(mode=0o700)
        return folder

    def publish(
        self, name: str, staged: Path, version: str, *, activate: bool = False
    ) -> AdapterVersion:
        """Turn a staged folder, manifest included, into a version. One rename.

        Args:
            activate: Let it answer, before anybody else can change something.
        """
        if not VERSION.fullmatch(version):
            raise DataError(f"{version!r} cannot be a version; take one of new_version()")
        manifests.read(staged)
        target = self.folder / name / version
        with self.changing():
            if target.exists():
                raise DataError(
                    f"there is a version {version!r} of {name!r} already; take a new one"
                )
            staged.rename(target)
            if activate:
                self._point(name, version)
        return self.get(name, version)

    def debris(self) -> list[Path]:
        """What killed processes left: true only of one who holds both locks."""
        halves = (f"*/{STAGING}*", f"*/{TRASH}*", "*/.*.part", ".*.part")
        return sorted(path for pattern in halves for path in self.folder.glob(pattern))

    def sweep(self) -> list[Path]:
        """Remove what killed processes left; call it with ``lock_file`` held. Gives what it was."""
        if not self.folder.is_dir():
            return []
        with self.changing():
            found = self.debris()
            for path in found:
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
        return found

    def version_names(self, name: str) -> list[str]:
        """The names of all versions of ``name``, readable or not, oldest first."""
        folder = self.folder / name
        if not NAME.fullmatch(name) or not folder.is_dir():
            return []
        return sorted(path.name for path in folder.iterdir() if VERSION.fullmatch(path.name))


def _throw_away(folder: Path) -> None:
    shutil.rmtree(folder.rename(folder.with_name(f"{TRASH}{secrets.token_hex(4)}")))


def new_version() -> str:
    """A version's name: the time, and four digits against collision."""
    return f"{datetime.now(UTC):{VERSION_TIME}}-{secrets.token_hex(2)}"


def made_at(version: str) -> datetime | None:
    """When a version was made, by its name; None where its digits are no date."""
    try:
        return datetime.strptime(version.partition("-")[0], VERSION_TIME).replace(tzinfo=UTC)
    except ValueError:
        return None
