"""Which adapter answers for a language, and why.

What was measured decides (``routes``), while it is of the versions that are active. Otherwise the
plain rule does: a language's own adapter, else the shared one if it learnt the language, else the
base.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from flex_assist.adapters import routes
from flex_assist.adapters.registry import IMPORTED, PROMOTED, AdapterVersion, Registry
from flex_assist.adapters.routes import BASE, PLUS, SHARED, Candidate, MeasuredRoute, RouteTable
from flex_assist.engine.protocol import Weights
from flex_assist.errors import ConfigError, DataError, FlexAssistError
from flex_assist.locations import Locations
from flex_assist.models import store
from flex_assist.models.fim import FimTokens
from flex_assist.models.store import name_of

__all__ = ["BASE", "SHARED", "Route", "Router", "Routes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """The choice for one request.

    Attributes:
        name: The adapter's name, names joined by ``+``, or ``base``.
        reason: One clause for people.
        adapters: LoRA GGUF files that are added to the base model; none for the base itself.
        merged: The base with their sum in it, as one file, where there is one.
        fim: Infilling tokens that it was trained with.
        version: Of the adapter that says how infilling is asked for.
    """

    name: str
    reason: str
    adapters: tuple[Path, ...] = ()
    merged: Path | None = None
    fim: FimTokens | None = None
    version: str = ""

    def weights(self, model: Path) -> Weights:
        """What the engine loads, over the base model's file ``model``."""
        return Weights(
            model=model,
            adapters=self.adapters,
            merged=self.merged,
            name=self.name if self.adapters else "",
            version=self.version,
        )


class Routes(Protocol):
    """Whatever chooses an adapter."""

    def route(self, language: str | None, choice: str = "auto") -> Route:
        """Choose for a language."""
        ...


class Router:
    """Routes the requests of one repository.

    Args:
        root: The repository, or None where a file belongs to none: then the base answers.
        base_model: Only adapters of this base are considered; a name, or a path to a file.
    """

    def __init__(self, locations: Locations, root: Path | None, base_model: str | None = None):
        self._registry = Registry(locations, root) if root is not None else None
        self._locations = locations
        self._base, self._base_model = base_model, name_of(base_model) if base_model else None
        self._base_file: Path | None = None
        self._read: tuple[tuple[int, int, int], RouteTable | DataError] | None = None
        self._known: dict[tuple[tuple[str, str | None], ...], dict[str, str]] = {}

    def route(self, language: str | None, choice: str = "auto") -> Route:
        """Choose for a language.

        Args:
            language: The language's name, None if unknown.
            choice: ``auto``, ``none`` for the base, or an adapter's name.

        Raises:
            ConfigError: ``choice`` names an adapter that does not exist.
        """
        if choice == "none":
            return Route(name=BASE, reason="the base model was asked for")
        if choice != "auto":
            return self._named(choice)
        if self._registry is None:
            return Route(name=BASE, reason="the file is in no adapted repository")
        if language is None:
            return Route(name=BASE, reason="the language is unknown")
        measured, doubt = self._measured(language)
        if measured and (found := self._to(measured.choice, measured.reason)):
            return found
        plain = self.plain(language)
        return replace(plain, reason=f"{plain.reason}; {doubt}") if doubt else plain

    def candidates(self, language: str) -> tuple[Candidate, ...]:
        """Who might answer for a language, and how well where that was measured.

        The figures are of the table where it holds, else of the gate of the language's own adapter.
        """
        measured, _ = self._measured(language)
        own = self._active(language)
        found = measured.candidates if measured else (Candidate(name=BASE, versions={}),)
        if measured is None and own is not None:
            version = {language: own.manifest.version}
            found = (*found, Candidate(name=language, versions=version))
        # What an imported one was measured on is another repository.
        here = own is not None and own.manifest.verdict != IMPORTED
        bits = own.manifest.metrics.get("bits_per_byte") if own and here else None
        if not isinstance(bits, dict) or any(one.bits_per_byte is not None for one in found):
            return found
        gate = {BASE: bits.get("base"), language: bits.get("adapted")}
        return tuple(replace(one, bits_per_byte=_figure(gate.get(one.name))) for one in found)

    def languages(self) -> list[str]:
        """Languages for which something was measured or learnt."""
        if self._registry is None:
            return []
        table = self._table()
        shared = self._active(SHARED)
        found = {name for name in self.names() if name != SHARED}
        found |= set(shared.manifest.languages) if shared else set()
        return sorted(found | (set(table.routes) if isinstance(table, RouteTable) else set()))

    def plain(self, language: str) -> Route:
        """By the rule that needs no measurement."""
        assert self._registry is not None
        if own := self._active(language):
            return _of(language, (own,), _told(own))
        shared = self._active(SHARED)
        if shared and language in shared.manifest.languages:
            reason = f"{language} has little code here and shares an adapter"
            return _of(SHARED, (shared,), reason)
        reason = self._fault(language) or f"no adapter was promoted for {language}"
        return Route(name=BASE, reason=reason)

    def _measured(self, language: str) -> tuple[MeasuredRoute | None, str]:
        """What the table says of a language; or None, and why it does not count, if that is odd."""
        table = self._table()
        if isinstance(table, DataError):
            return None, str(table)
        measured = table.routes.get(language) if table else None
        if table is None or measured is None:
            return None, ""
        if self._base_model and table.base_model != self._base_model:
            return None, ""
        if measured.versions() != self.usable(language):
            return None, "what was measured is of other versions than the active ones"
        return measured, ""

    def usable(self, language: str) -> dict[str, str]:
        """Versions of the adapters that may answer for a language, where they are active."""
        assert self._registry is not None
        names = routes.adapters_for(language)
        pointers = tuple((name, self._registry.active_version(name)) for name in names)
        # A version never changes, and its manifest takes a while to read.
        if pointers not in self._known:
            self._known[pointers] = {
                name: version for name, version in pointers if version and self._active(name)
            }
        return self._known[pointers]

    def _table(self) -> RouteTable | DataError | None:
        """The table, read again only when its file has changed."""
        assert self._registry is not None
        try:
            status = (self._registry.folder / routes.FILE_NAME).stat()
        except (OSError, ValueError):
            return None
        state = (status.st_mtime_ns, status.st_size, status.st_ino)
        if self._read is None or self._read[0] != state:
            try:
                found: RouteTable | DataError | None = routes.read(self._registry.folder)
            except DataError as error:
                found = error
            if found is None:
                return None
            self._read = (state, found)
        return self._read[1]

    def _to(self, name: str, reason: str) -> Route | None:
        """The route to a name or to several that are added; None if one of them is not active."""
        if name == BASE:
            return Route(name=BASE, reason=reason)
        parts = name.split(PLUS)
        found = tuple(one for one in map(self._active, dict.fromkeys(parts)) if one)
        return _of(name, found, reason) if len(found) == len(parts) else None

    def _named(self, name: str) -> Route:
        found = self._to(name, "it was asked for by name") if name != BASE else None
        if found is None:
            known = ", ".join(self.names()) or "none yet; run `flex-assist adapt`"
            if wrong := self._fault(name):
                raise ConfigError(f"{wrong}; active here: {known}")
            raise ConfigError(f"there is no active adapter {name!r}; active here: {known}")
        return found

    def names(self) -> list[str]:
        """Names with an active version."""
        if self._registry is None:
            return []
        return [name for name in self._registry.names() if self._active(name)]

    def _active(self, name: str) -> AdapterVersion | None:
        found = self._registry.active(name) if self._registry else None
        if found and self._base_model and found.manifest.base_model != self._base_model:
            return None
        return None if found and self._is_of_another_base(found) else found

    def _is_of_another_base(self, adapter: AdapterVersion) -> bool:
        """Whether the base has the name that an adapter was made for, but is another file."""
        wanted = adapter.manifest.base_sha256
        if not wanted or self._base is None:
            return False
        try:
            self._base_file = self._base_file or store.find(self._base).path
            return store.known_sha256(self._base_file, self._locations) != wanted
        # Whoever loads it says what is wrong with it.
        except (FlexAssistError, OSError):
            return False

    def _fault(self, name: str) -> str | None:
        """Why an adapter that is to be active does not answer, for people; None if it may."""
        if self._registry is None:
            return None
        if wrong := self._registry.fault(name):
            return (
                f"the adapter of {name} is damaged ({wrong}); see `flex-assist doctor`, or run "
                "`flex-assist adapt` again"
            )
        found = self._registry.active(name)
        named = found and found.manifest.base_model == self._base_model
        if found and named and self._is_of_another_base(found):
            return (
                f"the adapter of {name} was made for another file of the name "
                f"{self._base_model!r} (sha256 {found.manifest.base_sha256[:16]}…); run "
                "`flex-assist adapt` again"
            )
        return None


def _told(own: AdapterVersion) -> str:
    """Why a version answers: of one that was activated by hand, not what the gate found of it."""
    manifest = own.manifest
    if manifest.verdict in (PROMOTED, IMPORTED):
        return manifest.reason
    return f"activated by hand; the gate said: {manifest.reason}"


def _of(name: str, adapters: tuple[AdapterVersion, ...], reason: str) -> Route:
    """The route to adapters that are added; the last one says how infilling is asked for."""
    return Route(
        name=name,
        reason=reason,
        adapters=tuple(one.lora for one in adapters),
        merged=adapters[0].merged if len(adapters) == 1 else None,
        fim=adapters[-1].manifest.fim,
        version=adapters[-1].manifest.version,
    )


def _figure(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
