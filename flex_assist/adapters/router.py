"""Which adapter answers for a language, and why."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from flex_assist.adapters.registry import AdapterVersion, Registry
from flex_assist.engine.protocol import Weights
from flex_assist.errors import ConfigError
from flex_assist.locations import Locations
from flex_assist.models.fim import FimTokens
from flex_assist.models.store import name_of

BASE = "base"
SHARED = "shared"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """The choice for one request.

    Attributes:
        name: The adapter's name, or ``base``.
        reason: One clause for people.
        lora: Its LoRA GGUF file; None for the base model.
        fim: Infilling tokens that it was trained with.
    """

    name: str
    reason: str
    lora: Path | None = None
    fim: FimTokens | None = None

    def weights(self, model: Path) -> Weights:
        """What the engine loads, over the base model's file ``model``."""
        return Weights(model=model, adapter=self.lora)


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
        self._base_model = name_of(base_model) if base_model else None

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
        if own := self._active(language):
            return _to(own, own.manifest.reason)
        shared = self._active(SHARED)
        if shared and language in shared.manifest.languages:
            return _to(shared, f"{language} has little code here and shares an adapter")
        if self._registry.is_damaged(language):
            reason = f"the adapter of {language} is damaged; run `flex-assist adapt` again"
            return Route(name=BASE, reason=reason)
        return Route(name=BASE, reason=f"no adapter was promoted for {language}")

    def _named(self, name: str) -> Route:
        adapter = self._active(name)
        if adapter is None:
            known = ", ".join(self.names()) or "none yet; run `flex-assist adapt`"
            raise ConfigError(f"there is no active adapter {name!r}; active here: {known}")
        return _to(adapter, "it was asked for by name")

    def names(self) -> list[str]:
        """Names with an active version."""
        if self._registry is None:
            return []
        return [name for name in self._registry.names() if self._active(name)]

    def _active(self, name: str) -> AdapterVersion | None:
        found = self._registry.active(name) if self._registry else None
        if found and self._base_model and found.manifest.base_model != self._base_model:
            return None
        return found


def _to(adapter: AdapterVersion, reason: str) -> Route:
    manifest = adapter.manifest
    return Route(name=manifest.name, reason=reason, lora=adapter.lora, fim=manifest.fim)
