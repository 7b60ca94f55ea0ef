"""What of a repository's code is new since the last run: by the digests of texts, not by events."""

import json
import time
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from flex_assist.adapters.manifest import Manifest
from flex_assist.adapters.registry import Registry, made_at
from flex_assist.errors import DataError
from flex_assist.files import write_json_atomically
from flex_trainer.watch_decision import Changes


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A document that mining would use.

    Attributes:
        sha256: Of its text as mining makes it.
    """

    language: str
    sha256: str
    characters: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What is kept of the last run, beside what the manifests say.

    Attributes:
        seen: Digests of all code at the last run. It may be of languages that no adapter is for.
        ended_s: When it ended, in seconds since 1970; 0 without a run.
        failures: Runs that failed, one after the other, up to the last.
    """

    seen: frozenset[str] = frozenset()
    ended_s: float = 0.0
    failures: int = 0


def compare(texts: Collection[Text], known: Collection[str]) -> Changes:
    """What of ``texts`` is not known.

    So a file that was renamed, or is again what it was, counts nothing, nor does one that is gone:
    there is nothing to learn from it.
    """
    new = {text.sha256: text for text in texts if text.sha256 not in known}
    total = sum(text.characters for text in texts)
    changed = sum(text.characters for text in new.values())
    return Changes(
        by_language=dict(Counter(text.language for text in new.values())),
        share=changed / max(1, total),
    )


def known(registry: Registry) -> frozenset[str]:
    """Digests that the newest and the active versions' manifests name, whatever the gate said."""
    found = set()
    for name in registry.names():
        versions = {_newest(registry, name)}
        if active := registry.active(name):
            versions.add(active.manifest.version)
        for version in versions:
            found.update(_digests(registry, name, version))
    return frozenset(found)


def state(registry: Registry) -> frozenset[tuple[str, str]]:
    """Changes whenever a version comes, goes or becomes active. Cheap."""
    found = set()
    for name in registry.names():
        found.add((name, _newest(registry, name)))
        found.add((name, f"active {registry.active_version(name)}"))
    return frozenset(found)


def newest_s(registry: Registry) -> float:
    """When the newest version was made, in seconds since 1970; 0 without one."""
    made = (made_at(_newest(registry, name)) for name in registry.names())
    return min(max((when.timestamp() for when in made if when), default=0.0), time.time())


def recall(path: Path) -> Memory:
    """The memory in a file; an empty one where there is none, or it is damaged."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return Memory(
            seen=frozenset(str(digest) for digest in record["seen"]),
            ended_s=min(float(record["ended_s"]), time.time()),
            failures=max(0, int(record["failures"])),
        )
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        # Then a run may be done that would not have been.
        return Memory()


def remember(memory: Memory, path: Path) -> None:
    """Write a memory, atomically. Digests only: no path and no text of the repository."""
    record = {
        "seen": sorted(memory.seen),
        "ended_s": memory.ended_s,
        "failures": memory.failures,
    }
    write_json_atomically(path, record)


def _newest(registry: Registry, name: str) -> str:
    return max(registry.version_names(name), default="")


def _digests(registry: Registry, name: str, version: str) -> set[str]:
    try:
        manifest: Manifest = registry.get(name, version).manifest
    except DataError:
        return set()
    return {one["sha256"] for one in manifest.data if isinstance(one.get("sha256"), str)}
