"""The disk space of a repository's adapters: the oldest versions that nobody needs go first."""

from flex_assist.adapters.registry import AdapterVersion, Registry

BYTES_PER_MB = 1_000_000
Key = tuple[str, str]


def enforce(registry: Registry, most_mb: int, keep: Key) -> tuple[list[Key], int]:
    """Remove versions until all together take no more than ``most_mb``.

    Never removed: the active versions, the ones that these began with (an interrupted run may
    need them), ``keep``, and whatever cannot be read: it may be of a newer version of the product.

    Args:
        keep: Name and version of the one just published.

    Returns:
        Name and version of each that is gone, oldest first; and how many MB are left.
    """
    with registry.changing():
        needed = {keep, *_needed(registry)}
        sizes = {key: _bytes(registry, key) for key in registry.folders()}
        readable = [one for name in registry.names() for one in registry.versions(name)]
        keys = ((one.folder.parent.name, one.folder.name) for one in readable)
        total, removed = sum(sizes.values()), []
        for key in sorted(keys, key=lambda one: one[1]):
            if total <= most_mb * BYTES_PER_MB:
                break
            if key not in needed:
                registry.discard(*key)
                total -= sizes[key]
                removed.append(key)
    return removed, -(-total // BYTES_PER_MB)


def tidy(registry: Registry, most_mb: int, keep: Key) -> list[str]:
    """``enforce``, and sentences for people: what went, and where it was not enough."""
    removed, left_mb = enforce(registry, most_mb, keep)
    told = []
    if removed:
        gone = ", ".join("/".join(key) for key in removed)
        told.append(f"removed to stay within storage.adapters_mb = {most_mb}: {gone}")
    if left_mb > most_mb:
        told.append(f"the adapters that are needed take {left_mb} MB, more than {most_mb} MB")
    return told


def _needed(registry: Registry) -> set[Key]:
    """The versions that pointers name, and those that they began with."""
    found = set()
    for name in registry.names():
        if pointed := registry.active_version(name):
            found.add((name, pointed))
        active: AdapterVersion | None = registry.active(name)
        if active and active.manifest.parent:
            found.add((name, active.manifest.parent))
    return found


def _bytes(registry: Registry, key: Key) -> int:
    files = (registry.folder / key[0] / key[1]).rglob("*")
    return sum(path.stat().st_size for path in files if path.is_file())
