"""Notices that another process has made an adapter active, or has taken one away."""

from pathlib import Path

from flex_assist.adapters.registry import POINTER, Registry
from flex_assist.locations import Locations
from flex_assist.repository import forgotten as forgetting

POLL_INTERVAL_S = 3.0


def active_versions(locations: Locations, root: Path) -> frozenset[tuple[str, str]]:
    """Adapter and active version of a repository: a few tiny files, read in well under 1 ms.

    What is to be forgotten counts as one more: the pieces that prompts quote change with it.
    """
    folder = Registry(locations, root).folder
    found = set()
    try:
        for pointer in folder.glob(f"*/{POINTER}"):
            found.add((pointer.parent.name, pointer.read_text("utf-8", "replace").strip()))
        forgotten = folder / forgetting.FILE_NAME
        if forgotten.is_file():
            found.add((forgotten.name, str(forgotten.stat().st_mtime_ns)))
    except OSError:
        # A pointer that is replaced at this very moment is seen at the next look.
        return frozenset(found)
    return frozenset(found)
