"""The use case: make the adapters of a repository forget some of its files.

In this order, so that a kill at any moment leaves less knowledge and never more: what is to be
forgotten is written down (no mining takes it from then on), the versions that know it lose their
pointers, the engine host ends with all it computed for them, the versions and the checkpoints are
deleted. Doing it again finishes what was left. Only then is anything trained.
"""

import asyncio
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flex_assist.adapters import traces
from flex_assist.adapters.registry import Registry
from flex_assist.adapters.traces import Trace
from flex_assist.config import Settings
from flex_assist.engine.client import HostEngine
from flex_assist.engine.kept_files import remove_all
from flex_assist.errors import DataError
from flex_assist.locations import Locations, private_directory, repository_id
from flex_assist.locks import exclusive
from flex_assist.repository import forgotten as forgetting
from flex_assist.repository.forgotten import OTHERS, Forgotten
from flex_assist.repository.snapshot import known_digests
from flex_assist.repository.walk import folders_around


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """What was taken away.

    Attributes:
        paths: What is forgotten now, relative to the root.
        active: Adapters that answered and do not any more.
    """

    paths: tuple[str, ...]
    traces: tuple[Trace, ...]
    active: tuple[str, ...]
    checkpoints: bool

    @property
    def languages(self) -> tuple[str, ...]:
        """Whose adapters are to be trained anew."""
        return tuple(sorted({name for trace in self.traces for name in trace.languages}))


def forget(paths: Sequence[str], root: Path, settings: Settings, locations: Locations) -> Removed:
    """Take away all that knows ``paths``, and leave them out from now on.

    Args:
        paths: Files or folders, relative to the root; see ``relative``.

    Raises:
        BusyError: A run works on the repository.
        DataError: Nothing of that name is in the repository or in an adapter.
    """
    registry = Registry(locations, root)
    private_directory(registry.folder)
    with exclusive(registry.lock_file, what=f"the repository {str(root)!r}"):
        forgotten = _with(paths, root, settings, registry)
        forgetting.save(forgotten, registry.folder)
        found = traces.of(forgotten, registry)
        active = [t.name for t in found if registry.active_version(t.name) == t.version]
        for name in active:
            registry.deactivate(name)
        asyncio.run(_stop_host(locations, settings))
        # What hosts leave of the last documents at their end.
        remove_all(locations.prefixes)
        traces.remove(found, registry)
        registry.sweep()
        others = _elsewhere(forgotten, root, locations)
        checkpoints = any(_clear(each, locations) for each in (root, *others))
        for each in others:
            found += _forget_in(Registry(locations, each), forgotten)
    return Removed(
        paths=tuple(paths), traces=tuple(found), active=tuple(active), checkpoints=checkpoints
    )


def traces_of(
    paths: Sequence[str], root: Path, settings: Settings, locations: Locations
) -> list[Trace]:
    """The versions that ``forget`` would take away. Changes nothing.

    Raises:
        DataError: Nothing of that name is in the repository or in an adapter.
    """
    registry = Registry(locations, root)
    return traces.of(_with(paths, root, settings, registry), registry)


def _clear(root: Path, locations: Locations) -> bool:
    """Delete what an unfinished run and ``watch`` keep; whether there was a run."""
    training = locations.training(repository_id(root))
    there = training.exists()
    if there:
        shutil.rmtree(training)
    locations.watched(repository_id(root)).unlink(missing_ok=True)
    return there


def _elsewhere(forgotten: Forgotten, root: Path, locations: Locations) -> list[Path]:
    """Parts of the repository, and the whole of which this is one, that were adapted, too."""
    if not locations.adapters.is_dir():
        return []
    adapted = {path.name for path in locations.adapters.iterdir()}
    inside = {Path(folder) for folder, _, _ in os.walk(root) if Path(folder) != root}
    around = {folder for folder, _ in folders_around(root)}
    return sorted(one for one in inside | around if repository_id(one) in adapted)


def _forget_in(registry: Registry, forgotten: Forgotten) -> list[Trace]:
    """Versions of another registry that have seen the same texts, gone from it."""
    texts = Forgotten(paths={OTHERS: forgotten.digests})
    with exclusive(registry.lock_file, what=f"the adapters in {str(registry.folder)!r}"):
        found = traces.of(texts, registry)
        traces.remove(found, registry)
        return found


def remember(paths: Sequence[str], root: Path, locations: Locations) -> None:
    """Let ``paths`` be learnt again by the next run.

    Raises:
        BusyError: A run works on the repository.
        DataError: One of them is not forgotten.
    """
    registry = Registry(locations, root)
    private_directory(registry.folder)
    with exclusive(registry.lock_file, what=f"the repository {str(root)!r}"):
        known = forgetting.load(registry.folder)
        for path in paths:
            if path not in known.paths:
                there = ", ".join(map(repr, sorted(known.paths))) or "nothing"
                raise DataError(f"{path!r} is not forgotten; forgotten here: {there}")
        forgetting.save(known.without(paths), registry.folder)


def relative(name: str, root: Path) -> str:
    """A path as a person gives it, relative to the root: from the folder they are in, or from it.

    Raises:
        DataError: It lies outside of the repository.
    """
    given = Path(name)
    # Links are not followed: the path is what was mined, not what it may lead to.
    here = given if given.is_absolute() else Path.cwd() / given
    from_here, from_root = Path(_normal(here)), Path(_normal(root / given))
    for candidate in (from_here, from_root):
        if candidate.is_relative_to(root) and (candidate.exists() or candidate.is_symlink()):
            return _checked(candidate, root)
    return _checked(from_here if from_here.is_relative_to(root) else from_root, root)


def _checked(path: Path, root: Path) -> str:
    if not path.is_relative_to(root) or path == root:
        raise DataError(f"{str(path)!r} is no file or folder below {str(root)!r}; give one that is")
    on_the_way = [path, *(each for each in path.parents if each.is_relative_to(root))][:-1]
    if any(each.is_symlink() for each in on_the_way):
        raise DataError(f"{str(path)!r} is a link, or behind one; give what it leads to")
    return path.relative_to(root).as_posix()


def _normal(path: Path) -> str:
    return os.path.normpath(path)


def _with(paths: Sequence[str], root: Path, settings: Settings, registry: Registry) -> Forgotten:
    forgotten = forgetting.load(registry.folder)
    known = known_digests(root, settings.mining)
    for path in paths:
        below = Forgotten(paths={path: frozenset()})
        now = {one for name, own in known.items() if below.has_path(name) for one in own}
        digests = now | traces.digests_of(path, registry)
        there = (root / path).exists() or path in forgotten.paths
        if not digests and not there:
            raise DataError(
                f"there is no {path!r} in the repository, and no adapter has seen one; see "
                "`flex-assist adapt --dry-run` for the paths"
            )
        forgotten = forgotten.joined(path, digests)
    return forgotten


async def _stop_host(locations: Locations, settings: Settings) -> None:
    """End the engine host: what it has computed for the old adapters is gone with it."""
    engine = HostEngine(locations, settings.engine)
    try:
        await engine.stop_host()
    finally:
        await engine.close()
