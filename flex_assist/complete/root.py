"""Which repository a file belongs to."""

from pathlib import Path

from flex_assist.errors import ConfigError
from flex_assist.locations import Locations
from flex_assist.repository import forgotten

MARKERS = (".git", ".flexassist.toml", ".flexassistignore")
PROJECT_FILES = ("pyproject.toml", "package.json", "go.mod", "Cargo.toml", "pom.xml")


def find_root(path: Path, locations: Locations) -> Path | None:
    """The nearest folder around ``path`` that was adapted or is a repository.

    Where there is none, the nearest one with a project file, or None.
    """
    folders = _around(path)
    for folder in folders:
        if _is_adapted(folder, locations) or _has(folder, MARKERS):
            return folder
    return next((folder for folder in folders if _has(folder, PROJECT_FILES)), None)


def root_of(folder: Path, locations: Locations) -> Path:
    """The repository that a folder is, or is a part of.

    Raises:
        ConfigError: It is no folder.
    """
    if not folder.is_dir():
        raise ConfigError(f"{str(folder)!r} is not a folder")
    return find_root(folder, locations) or folder


def adapted_root(path: Path, locations: Locations) -> Path | None:
    """The nearest folder around ``path`` that ``adapt`` was run on, or None."""
    return next((folder for folder in _around(path) if _is_adapted(folder, locations)), None)


def _around(path: Path) -> list[Path]:
    own = [path.absolute()] if path.is_dir() else []
    return [*own, *path.absolute().parents]


def _is_adapted(folder: Path, locations: Locations) -> bool:
    # The command line loads this module before it knows what is asked.
    from flex_assist.adapters.registry import Registry

    # A run that failed early leaves a folder without any version.
    registry = Registry(locations, folder)
    return bool(registry.names()) or (registry.folder / forgotten.FILE_NAME).exists()


def _has(folder: Path, names: tuple[str, ...]) -> bool:
    return any((folder / name).exists() for name in names)
