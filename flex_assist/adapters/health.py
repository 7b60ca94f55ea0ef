"""What is wrong with the adapters of all repositories, and mending it.

Debris of killed processes is removed, and a pointer to a version that is not whole is moved to the
last good one. No version is ever deleted: not a damaged one, for a person may still want to look,
nor one that only a newer version of the product can read.
"""

import re
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from flex_assist.adapters import integrity
from flex_assist.adapters.registry import Registry
from flex_assist.adapters.schema import TooNewError
from flex_assist.errors import BusyError, DataError
from flex_assist.locations import Locations
from flex_assist.locks import exclusive

# As files.write_atomically names what it has not finished.
PART = re.compile(r"\..+\.[a-z0-9_]{8}\.part", re.ASCII)
# Outside of the locks a file that grows is somebody's work; one that lay still so long is not.
STILL_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        what: One clause for people.
        done: What was done about it; empty where nothing was.
        advice: What a person can do.
    """

    path: Path
    what: str
    done: str = ""
    advice: str = "flex-assist doctor --fix"


def registries(locations: Locations) -> list[Registry]:
    """Those of all repositories that have been adapted."""
    if not locations.adapters.is_dir():
        return []
    folders = sorted(path for path in locations.adapters.iterdir() if path.is_dir())
    return [Registry.at(folder) for folder in folders if not folder.is_symlink()]


def look(locations: Locations, *, fix: bool = False) -> Iterator[Finding]:
    """All that is wrong, mended where it can be if ``fix``."""
    for registry in registries(locations):
        yield from _debris(registry, locations, fix)
        yield from _versions(registry)
        yield from _pointers(registry, fix)
    yield from _orphans(locations, fix)
    yield from _parts(locations, fix)


def _debris(registry: Registry, locations: Locations, fix: bool) -> Iterator[Finding]:
    """What killed runs left, where no run is at work now."""
    run = locations.training(registry.folder.name)
    try:
        with ExitStack() as held:
            # A folder without the run's lock has never seen a run, and is not given one.
            locked = registry.lock_file.exists()
            if locked:
                held.enter_context(exclusive(registry.lock_file, what="the repository"))
            with registry.changing():
                found = [*registry.debris(), *_unfinished(run)]
            if not locked and registry.lock_file.exists():
                # A run, or an import, began meanwhile: this is its own.
                return
            if fix:
                registry.sweep()
                for path in found:
                    _delete(path)
    except BusyError:
        return
    for path in found:
        yield Finding(
            path=path, what="left by a process that was killed", done="removed" if fix else ""
        )


def _versions(registry: Registry) -> Iterator[Finding]:
    """Versions that are not what was published."""
    for name, version in registry.folders():
        folder = registry.folder / name / version
        try:
            wrong = integrity.faults(folder, registry.get(name, version).manifest)
        except TooNewError as error:
            yield Finding(path=folder, what=str(error), advice="update flex-assist")
            continue
        except DataError as error:
            wrong = [str(error)]
        if wrong and folder.is_dir():
            advice = f"flex-assist adapters remove {name}/{version}, in that repository"
            yield Finding(path=folder, what="; ".join(wrong), advice=advice)


def _pointers(registry: Registry, fix: bool) -> Iterator[Finding]:
    """Names whose active version cannot answer."""
    names = sorted(path.name for path in registry.folder.iterdir() if path.is_dir())
    for name in names:
        try:
            wrong = _wrong_pointer(registry, name)
        except TooNewError:
            # It answers again after an update.
            continue
        if wrong is None:
            continue
        done = ""
        if fix:
            found = registry.mend(name)
            done = f"{found.manifest.version} answers now" if found else "the base answers now"
        what = f"the active version of {name} cannot be used: {wrong}"
        yield Finding(path=registry.pointer(name), what=what, done=done)


def _wrong_pointer(registry: Registry, name: str) -> str | None:
    if (wrong := registry.fault(name)) is not None:
        version = registry.active_version(name)
        if version in registry.version_names(name):
            try:
                registry.get(name, version)
            except TooNewError:
                raise
            except DataError:
                pass
        return wrong
    active = registry.active(name)
    return "; ".join(integrity.faults(active.folder, active.manifest)) or None if active else None


def _orphans(locations: Locations, fix: bool) -> Iterator[Finding]:
    """Runs of repositories whose adapters have been deleted: nothing can go on with them."""
    training = locations.cache / "training"
    for run in sorted(training.iterdir()) if training.is_dir() else []:
        if (locations.adapters / run.name).is_dir():
            continue
        if fix:
            _delete(run)
        what = "a run of a repository that is not known any more"
        yield Finding(path=run, what=what, done="removed" if fix else "")


def _parts(locations: Locations, fix: bool) -> Iterator[Finding]:
    """Unfinished files that nobody has written to for long."""
    known = [locations.data, locations.cache, locations.models, locations.cache / "watch"]
    known += sorted((locations.models / "installed").glob("*"))
    for folder in dict.fromkeys(known):
        for path in _unfinished(folder, deep=False):
            # Of itself: it may be a link that leads nowhere.
            if time.time() - path.lstat().st_mtime < STILL_S:
                continue
            if fix:
                _delete(path)
            yield Finding(path=path, what="never finished", done="removed" if fix else "")


def _unfinished(folder: Path, *, deep: bool = True) -> list[Path]:
    if not folder.is_dir():
        return []
    paths = folder.rglob(".*.part") if deep else folder.glob(".*.part")
    return sorted(path for path in paths if PART.fullmatch(path.name))


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
