"""Why a language has no adapter of its own: what the manifests of its repository say."""

from dataclasses import dataclass

from flex_assist.adapters.manifest import Manifest
from flex_assist.adapters.registry import AdapterVersion, Registry
from flex_assist.adapters.router import SHARED


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why a name has no active adapter.

    Attributes:
        why: One sentence for people.
        adapter: The version that it is about: the shared one, or one that was not promoted.
    """

    why: str
    adapter: AdapterVersion | None


def without_own(registry: Registry, name: str) -> Explanation | None:
    """Why ``name`` has no active adapter; None where nothing is known of it."""
    if wrong := registry.fault(name):
        why = f"the active version of {name} is damaged ({wrong}); run `flex-assist adapt` again"
        return Explanation(why=why, adapter=None)
    if versions := registry.versions(name):
        return Explanation(
            why=f"no version of {name} is active, so the base answers; the newest one:",
            adapter=versions[-1],
        )
    return _pooled(registry, name) or _too_little(registry, name)


def pool(manifest: Manifest) -> dict[str, str]:
    """The languages that share an adapter: files, tokens, and why it is shared."""
    found = {}
    for name, record in _mapping(manifest.details.get("pool")).items():
        known = _mapping(record)
        files, tokens = known.get("files", "?"), known.get("train_tokens", "?")
        found[name] = f"{files} files, {tokens} training tokens; {known.get('why', '?')}"
    return found


def without(manifest: Manifest) -> dict[str, str]:
    """The languages that got no adapter in the same run, and why."""
    return {n: str(why) for n, why in _mapping(manifest.details.get("without_adapter")).items()}


def _pooled(registry: Registry, name: str) -> Explanation | None:
    versions = registry.versions(SHARED)
    active = registry.active(SHARED)
    # One that is not active still tells why there is none of its own.
    shared = active or (versions[-1] if versions else None)
    if shared is None or name not in shared.manifest.languages:
        return None
    answers = "answers for it" if active else "was not promoted, so the base answers"
    why = f"{name} has no adapter of its own: the shared one {answers}"
    reason = _mapping(_mapping(shared.manifest.details.get("pool")).get(name)).get("why")
    return Explanation(why=f"{why} ({reason})" if reason else why, adapter=shared)


def _too_little(registry: Registry, name: str) -> Explanation | None:
    """By the newest version of any adapter: it was made in the last run."""
    versions = [one for own in registry.names() for one in registry.versions(own)]
    newest = max(versions, key=lambda one: one.manifest.version, default=None)
    why = without(newest.manifest).get(name) if newest else None
    return Explanation(why=f"{name} has no adapter: {why}", adapter=None) if why else None


def _mapping(value: object) -> dict[str, object]:
    """``value`` if it is one: a manifest's details may hold anything."""
    return value if isinstance(value, dict) else {}
