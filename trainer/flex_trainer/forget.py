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
from flex_assist.errors import DataError
from flex_assist.locations import Locations, private_directory, repository_id
from flex_assist.locks import exclusive
from flex_assist.repository import forgotten as forgetting
from flex_assist.repository.forgotten import Forgotten
from flex_assist.repository.snapshot import read_documents


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
        traces.remove(found, registry)
        registry.sweep()
        training = locations.training(repository_id(root))
        checkpoints = training.exists()
        shutil.rmtree(training, ignore_errors=True)
        locations.watched(repository_id(root)).unlink(missing_ok=True)
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
    for candidate in (Path(_normal(here)), Path(_normal(root / given))):
        if candidate.is_relative_to(root) and (candidate.exists() or candidate.is_symlink()):
            return _checked(candidate, root)
    return _checked(Path(_normal(root / given)), root)


def _checked(path: Path, root: Path) -> str:
    if not path.is_relative_to(root) or path == root:
        raise DataError(f"{str(path)!r} is not below {str(root)!r}; give files or folders of it")
    return path.relative_to(root).as_posix()


def _normal(path: Path) -> str:
    return os.path.normpath(path)


def _with(paths: Sequence[str], root: Path, settings: Settings, registry: Registry) -> Forgotten:
    forgotten = forgetting.load(registry.folder)
    documents = read_documents(root, settings.mining)
    for path in paths:
        below = Forgotten(paths={path: frozenset()})
        now = {one.sha256 for one in documents if below.has_path(one.path)}
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
