"""The registry of a repository, loaded when a command runs and not before: ``--help`` is quick."""

from pathlib import Path
from typing import TYPE_CHECKING

from flex_assist.complete.root import root_of
from flex_assist.locations import locate

if TYPE_CHECKING:
    from flex_assist.adapters.registry import Registry


def registry_of(repo: Path) -> "Registry":
    """The adapters of the repository that ``repo`` is, or lies in."""
    from flex_assist.adapters.registry import Registry

    locations = locate()
    return Registry(locations, root_of(repo, locations))
