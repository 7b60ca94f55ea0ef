"""Adapter versions on disk: ``<adapters>/<repository>/<name>/<version>/``.

A version folder appears by one rename and is never changed afterwards. The active version of a
name is the text of one small file, ``active``, replaced atomically. So a process that is killed at
any moment leaves either the old state or the new one, and readers need no lock.
"""

import re
import secrets
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from flex_assist.adapters import manifest as manifests
from flex_assist.adapters.manifest import LORA_GGUF, MERGED_GGUF, REPORT_HTML, Manifest
from flex_assist.errors import ConfigError, DataError
from flex_assist.files import write_text_atomically
from flex_assist.locations import Locations, private_directory, repository_id

POINTER = "active"
STAGING = ".staging-"
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
        """The merged GGUF file, if there is one."""
        path = self.folder / MERGED_GGUF
        return path if path.is_file() else None

    @property
    def report(self) -> Path | None:
        """The report for people, if there is one."""
        path = self.folder / REPORT_HTML
        return path if path.is_file() else None


class Registry:
    """The adapters of one repository."""

    def __init__(self, locations: Locations, root: Path) -> None:
        self.folder = locations.adapters / repository_id(root)

    @property
    def lock_file(self) -> Path:
        """Held while a run writes here."""
        return self.folder / "adapt.lock"

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
        return AdapterVersion(folder=folder, manifest=manifests.read(folder))

    def active(self, name: str) -> AdapterVersion | None:
        """The active version of ``name``; None without one or if it is damaged."""
        version = self.active_version(name)
        try:
            found = self.get(name, version) if version else None
        except DataError:
            return None
        return found if found and found.lora.is_file() else None

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
        pointed = NAME.fullmatch(name) and (self.folder / name / POINTER).exists()
        return bool(pointed) and self.active(name) is None

    def activate(self, name: str, version: str) -> AdapterVersion:
        """Make a version the one that answers. One atomic replacement of the pointer."""
        found = self.get(name, version)
        write_text_atomically(self.folder / name / POINTER, version + "\n")
        return found

    def remove(self, name: str, version: str) -> None:
        """Delete a version, readable or not; the base answers again where it was active."""
        if self.active_version(name) == version:
            self.deactivate(name)
        shutil.rmtree(self.folder / name / version)

    def deactivate(self, name: str) -> None:
        """Let the base answer for ``name`` again."""
        if NAME.fullmatch(name):
            (self.folder / name / POINTER).unlink(missing_ok=True)

    def stage(self, name: str) -> Path:
        """A new private folder for a version that is being written."""
        if not NAME.fullmatch(name):
            raise ConfigError(f"{name!r} cannot be an adapter's name")
        parent = private_directory(self.folder / name)
        folder = parent / f"{STAGING}{secrets.token_hex(4)}"
        folder.mkdir(mode=0o700)
        return folder

    def publish(self, name: str, staged: Path, version: str) -> AdapterVersion:
        """Turn a staged folder, manifest included, into a version. One rename."""
        if not VERSION.fullmatch(version):
            raise DataError(f"{version!r} cannot be a version; take one of new_version()")
        manifests.read(staged)
        target = self.folder / name / version
        if target.exists():
            raise DataError(f"there is a version {version!r} of {name!r} already; take a new one")
        staged.rename(target)
        return self.get(name, version)

    def sweep(self) -> list[Path]:
        """Remove what unfinished runs left; call it with the lock held. Gives what was removed."""
        debris = sorted(self.folder.glob(f"*/{STAGING}*"))
        for folder in debris:
            shutil.rmtree(folder, ignore_errors=True)
        return debris

    def version_names(self, name: str) -> list[str]:
        """The names of all versions of ``name``, readable or not, oldest first."""
        folder = self.folder / name
        if not NAME.fullmatch(name) or not folder.is_dir():
            return []
        return sorted(path.name for path in folder.iterdir() if VERSION.fullmatch(path.name))


def new_version() -> str:
    """A version's name: the time, and four digits against collision."""
    return f"{datetime.now(UTC):{VERSION_TIME}}-{secrets.token_hex(2)}"


def made_at(version: str) -> datetime | None:
    """When a version was made, by its name; None where its digits are no date."""
    try:
        return datetime.strptime(version.partition("-")[0], VERSION_TIME).replace(tzinfo=UTC)
    except ValueError:
        return None
