"""What a person wants forgotten of a repository: by what was said of it, and of those around it."""

from pathlib import Path

from flex_assist.adapters.registry import Registry
from flex_assist.locations import Locations
from flex_assist.repository import forgotten
from flex_assist.repository.forgotten import Forgotten
from flex_assist.repository.walk import folders_around


def of(root: Path, locations: Locations | None) -> Forgotten:
    """All that no mining below ``root`` may take.

    Args:
        locations: Where it is written; None where nothing is.

    Raises:
        DataError: See ``forgotten.load``.
    """
    if locations is None:
        return forgotten.NOTHING
    found = forgotten.load(Registry(locations, root).folder)
    for folder, prefix in folders_around(root):
        known = forgotten.load(Registry(locations, folder).folder)
        if known.paths:
            found = found.united(known.below(prefix))
    return found
