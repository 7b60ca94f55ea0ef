"""Which adapter versions know a file, and how they are taken away for good."""

from collections.abc import Iterable
from dataclasses import dataclass

from flex_assist.adapters.manifest import Manifest
from flex_assist.adapters.registry import Registry
from flex_assist.errors import DataError
from flex_assist.repository.documents import printable_path
from flex_assist.repository.forgotten import Forgotten


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """A version that knows something it should not.

    Attributes:
        languages: Of the files it has seen; empty where its manifest cannot be read.
    """

    name: str
    version: str
    languages: tuple[str, ...]


def of(forgotten: Forgotten, registry: Registry) -> list[Trace]:
    """All versions that have learnt from, or were measured on, something forgotten.

    A version whose manifest cannot be read might have, and counts.
    """
    if not forgotten.paths:
        return []
    found = []
    for name, version in registry.folders():
        try:
            manifest = registry.get(name, version).manifest
        except DataError:
            found.append(Trace(name=name, version=version, languages=()))
            continue
        if knows(manifest, forgotten):
            seen = {record.get("language") for record in manifest.data if _used(record)}
            languages = {*manifest.languages, *(one for one in seen if isinstance(one, str))}
            found.append(Trace(name=name, version=version, languages=tuple(sorted(languages))))
    return found


def knows(manifest: Manifest, forgotten: Forgotten) -> bool:
    """Whether a version has seen something forgotten, itself or through those it came from."""
    if manifest.details.get("common_steps") and not any("language" in r for r in manifest.data):
        # Of a time when a manifest named the files of its own languages only, though the weights
        # had begun with those of all.
        return True
    printable = Forgotten(
        paths={printable_path(path): own for path, own in forgotten.paths.items()}
    )
    digests = forgotten.digests
    return any(
        str(record.get("sha256")) in digests or printable.has_path(str(record.get("path")))
        for record in manifest.data
        if _used(record)
    )


def digests_of(path: str, registry: Registry) -> frozenset[str]:
    """Digests of all texts that any version has seen under ``path``, a file or a folder."""
    wanted = Forgotten(paths={printable_path(path): frozenset()})
    return frozenset(
        str(record["sha256"])
        for name in registry.names()
        for version in registry.versions(name)
        for record in version.manifest.data
        if record.get("sha256") and wanted.has_path(str(record.get("path")))
    )


def remove(traces: Iterable[Trace], registry: Registry) -> None:
    """Delete versions. Whoever is killed on the way finds the rest again by ``of``."""
    for trace in traces:
        registry.remove(trace.name, trace.version)


def _used(record: dict[str, object]) -> bool:
    return record.get("verdict") != "skip"
