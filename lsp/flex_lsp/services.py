"""One completion service for each repository that is open, all over one engine.

Nothing heavy is imported before it is needed: the editor waits for ``initialize``.
"""

import asyncio
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from flex_assist.complete.request import Completion, CompletionRequest
from flex_assist.config import EngineSettings, Settings
from flex_assist.locations import Locations
from flex_assist.remote_settings import RemoteSettings

_HEAVY = ("flex_assist.complete.service", "flex_assist.engine.choice")


class Completer(Protocol):
    """What the server asks of ``flex_assist.complete.service.CompletionService``."""

    async def complete(self, request: CompletionRequest) -> Completion:
        """Complete at a cursor."""
        ...

    def recall(self, request: CompletionRequest) -> Completion | None:
        """The answer if it is known without asking the model. Quick."""
        ...

    def prepare(self, request: CompletionRequest) -> None:
        """Let the engine read ahead what a completion will be asked with."""
        ...

    async def warm(self, language: str | None) -> None:
        """Load what the first completion in ``language`` needs."""
        ...

    def refresh(self) -> None:
        """Look at the repository again."""
        ...


class Backend(Protocol):
    """Makes services. The real one is ``EngineBackend``; tests bring their own."""

    async def prepare(self) -> None:
        """Import what is heavy. Does not block the event loop."""
        ...

    def service(self, settings: Settings, root: Path | None) -> Completer:
        """A service for one repository, or for files of none. Cheap, after ``prepare``."""
        ...

    async def close(self) -> None:
        """Let go of the engine."""
        ...


class EngineBackend:
    """Services over the shared engine host, or the server that a repository opted in to."""

    def __init__(self, locations: Locations) -> None:
        self._locations = locations
        self._engines: dict[tuple[EngineSettings, RemoteSettings], Any] = {}
        self._imported: asyncio.Future[None] | None = None

    async def prepare(self) -> None:
        """Import the completion code in a thread, once."""
        if self._imported is None:
            self._imported = asyncio.ensure_future(asyncio.to_thread(_import_heavy))
        await asyncio.shield(self._imported)

    def service(self, settings: Settings, root: Path | None) -> Completer:
        """A service over an engine; the same one for all whose settings of it are the same."""
        from flex_assist.complete.service import CompletionService
        from flex_assist.engine.choice import open_engine

        key = (settings.engine, settings.remote)
        if key not in self._engines:
            self._engines[key] = open_engine(self._locations, settings)
        return CompletionService(
            engine=self._engines[key], settings=settings, locations=self._locations, root=root
        )

    async def close(self) -> None:
        """Close the connection; the host lives on for other editors."""
        engines, self._engines = [*self._engines.values()], {}
        for engine in engines:
            await engine.close()


class Services:
    """The services in use, by repository; each with the settings it was made with."""

    def __init__(self, backend: Backend, settings_of: Callable[[Path | None], Settings]) -> None:
        self._backend = backend
        self._settings_of = settings_of
        self._settings: dict[Path | None, Settings] = {}
        self._services: dict[Path | None, Completer] = {}
        # When each was warmed last, by the clock of the event loop.
        self._warm: dict[tuple[Path | None, str | None], float] = {}

    def settings(self, root: Path | None) -> Settings:
        """The settings for a repository, read once until ``reset``."""
        if root not in self._settings:
            self._settings[root] = self._settings_of(root)
        return self._settings[root]

    def roots(self) -> tuple[Path, ...]:
        """The repositories with a service."""
        return tuple(root for root in self._services if root is not None)

    async def get(self, root: Path | None) -> Completer:
        """The service for a repository."""
        await self._backend.prepare()
        if root not in self._services:
            self._services[root] = self._backend.service(self.settings(root), root)
        return self._services[root]

    def recall(self, root: Path | None, request: CompletionRequest) -> Completion | None:
        """The answer if the service for a repository is there and knows it."""
        service = self._services.get(root)
        return service.recall(request) if service is not None else None

    def prepare(self, root: Path | None, request: CompletionRequest) -> None:
        """Let the engine read ahead, if the service for a repository is there."""
        service = self._services.get(root)
        if service is not None:
            service.prepare(request)

    async def warm(self, root: Path | None, language: str | None) -> bool:
        """Load what a language needs; False if that was done or begun not long ago.

        The engine host lets go of models after an idle time: later than that it is done again.
        """
        now_s, key = asyncio.get_running_loop().time(), (root, language)
        idle_unload_s = self.settings(root).engine.idle_unload_s
        if now_s - self._warm.get(key, float("-inf")) < idle_unload_s:
            return False
        self._warm[key] = now_s
        try:
            await (await self.get(root)).warm(language)
        except BaseException:
            self._warm.pop(key, None)
            raise
        return True

    def promoted(self, root: Path | None) -> list[str | None]:
        """New adapters are there: gives the languages to warm again."""
        if root in self._services:
            self._services[root].refresh()
        stale = [key for key in self._warm if key[0] == root]
        for key in stale:
            del self._warm[key]
        return [language for _, language in stale]

    def reset(self) -> None:
        """The settings may have changed: make everything anew when it is next asked for."""
        self._settings.clear()
        self._services.clear()
        self._warm.clear()

    async def close(self) -> None:
        """Let go of the engine."""
        await self._backend.close()


def _import_heavy() -> None:
    for module in _HEAVY:
        importlib.import_module(module)
