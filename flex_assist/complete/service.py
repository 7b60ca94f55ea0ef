"""The one use case behind the editors, the command line and the benchmarks."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import TypeVar

from flex_assist.adapters.router import BASE, Route, Router, Routes
from flex_assist.complete.context import RepositoryContext
from flex_assist.complete.region import Region, at_cursor
from flex_assist.complete.request import Completion, CompletionRequest
from flex_assist.complete.trim import Surroundings, finished_early, several_lines, trim
from flex_assist.config import Settings
from flex_assist.engine.protocol import (
    Engine,
    Finished,
    Form,
    GenerateRequest,
    Piece,
    TextPiece,
    Weights,
)
from flex_assist.errors import ModelError
from flex_assist.language import Language
from flex_assist.locations import Locations
from flex_assist.models import store
from flex_assist.prompt.builder import Outline, Prompt, assemble, outline
from flex_assist.repository.outgoing import Outgoing

ENCODED_TEXTS_KEPT = 4096
T = TypeVar("T")


class CompletionService:
    """Completes in one repository, or in files of none.

    Args:
        root: The repository's root; None where there is none.
        context: What the repository adds; by default an index of its files, built when needed.
        router: Who chooses the adapter; by default the registry's.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        settings: Settings,
        locations: Locations,
        root: Path | None,
        context: RepositoryContext | None = None,
        router: Routes | None = None,
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._locations = locations
        self._context = context or RepositoryContext(root, settings, locations=locations)
        self._router = router or Router(locations, root, settings.model.base)
        self._outgoing = Outgoing(root) if settings.remote.url and root is not None else None
        self._encoded: dict[str, list[int]] = {}
        self._model: Path | None = None

    async def complete(self, request: CompletionRequest) -> Completion:
        """Complete at the cursor. Cancel the task to cancel the work.

        Raises:
            EngineError, ModelError: With a message for people.
            ConfigError: The request names an adapter that does not exist.
        """
        region = at_cursor(
            _lf(request.before),
            _lf(request.after),
            path=request.path,
            language_id=request.language_id,
        )
        region = self._known(region, request.adapter)
        return await self._routed(
            region.language.name if region.language else None,
            request.adapter,
            lambda route: self._complete(request, region, route),
        )

    def _known(self, region: Region, adapter: str) -> Region:
        """The code in a string where an adapter has learnt its language, else the code around."""
        if region.outer is None or region.language is None:
            return region
        learnt = adapter == "auto" and self._router.route(region.language.name).adapters
        return region if learnt else region.outer

    async def _complete(
        self,
        request: CompletionRequest,
        region: Region,
        route: Route,
    ) -> Completion:
        clock, language = _Clock(), region.language
        around = Surroundings(before=region.before, after=region.after)
        with clock.stage("context"):
            model = await self._base()
            prompt = await self._prompt(request, around, language, route, model)
        several = "\n" not in region.stops and several_lines(
            around, knows_end=route.fim is not None
        )
        stops = region.stops if several else tuple(dict.fromkeys((*region.stops, "\n")))
        kept = ""
        if self._outgoing:
            kept = await self._outgoing.objection(request.path, request.before, request.after)
        text, finished = await self._generate(prompt, route.weights(model), around, stops, kept)
        with clock.stage("trim"):
            shown, notes = trim(text, around, several=several, ended_by=finished.reason)
            if "\r\n" in request.before or "\r\n" in request.after:
                shown = shown.replace("\n", "\r\n")
        clock.add(queue=finished.queue_ms, prefill=finished.prefill_ms, decode=finished.decode_ms)
        return Completion(
            text=shown,
            language=language.name if language else None,
            adapter=route.name,
            reason=f"{route.reason}; {finished.served}" if finished.served else route.reason,
            form=finished.form,
            timings_ms=clock.result(),
            prompt_tokens=finished.prompt_tokens,
            reused_tokens=finished.reused_tokens,
            completion_tokens=finished.completion_tokens,
            notes=notes,
            warning=finished.warning,
        )

    async def warm(self, language: str | None, adapter: str = "auto") -> None:
        """Load what the first completion in ``language`` will need.

        Args:
            adapter: What it will ask for, as ``CompletionRequest.adapter``.
        """
        model = await self._base()
        await self._routed(language, adapter, lambda route: self._engine.warm(route.weights(model)))
        await self._context.load()

    def refresh(self) -> None:
        """Look at the repository's files again. Adapters are looked up at each request anyway."""
        self._context.forget()
        if self._outgoing:
            self._outgoing.forget()

    async def _routed(
        self, language: str | None, adapter: str, use: Callable[[Route], Awaitable[T]]
    ) -> T:
        """``use`` with the route for a language; a damaged adapter must not cost the completion."""
        route = self._router.route(language, adapter)
        try:
            return await use(route)
        except ModelError as error:
            if not route.adapters or adapter != "auto":
                raise
            return await use(Route(name=BASE, reason=f"{route.name!r} failed: {error}"))

    async def _base(self) -> Path:
        if self._model is None:
            base = self._settings.model.base
            self._model = await asyncio.to_thread(store.serving_path, base, self._locations)
        return self._model

    async def _prompt(
        self,
        request: CompletionRequest,
        around: Surroundings,
        language: Language | None,
        route: Route,
        model: Path,
    ) -> Prompt:
        settings = self._settings.prompt
        path = self._context.relative(request.path)
        chunks = await self._context.chunks(around.before, around.after, path, language)
        planned = outline(
            around.before,
            around.after,
            path=path,
            language=language,
            chunks=chunks,
            settings=settings,
        )
        return assemble(planned, await self._encode(planned, model), route.fim, settings)

    async def _encode(self, planned: Outline, model: Path) -> list[list[int]]:
        texts = planned.texts()
        missing = [text for text in dict.fromkeys(texts) if text not in self._encoded]
        if len(self._encoded) > ENCODED_TEXTS_KEPT:
            self._encoded.clear()
            missing = list(dict.fromkeys(texts))
        if missing:
            pieces = [TextPiece(text=text) for text in missing]
            ids = await self._engine.tokenize(model, pieces)
            self._encoded.update(zip(missing, ids, strict=True))
        return [self._encoded[text] for text in texts]

    async def _generate(
        self,
        prompt: Prompt,
        weights: Weights,
        around: Surroundings,
        stops: tuple[str, ...],
        kept: str,
    ) -> tuple[str, Finished]:
        request = GenerateRequest(
            weights=weights,
            tokens=prompt.tokens,
            heal=True,
            max_tokens=self._settings.completion.max_tokens,
            stop_texts=stops,
            keep_local=kept,
        )
        text, started, first = "", time.perf_counter(), None
        pieces = 0
        form: Form = "base"
        served = warning = ""
        # Closing the stream is what tells the engine to stop.
        async with aclosing(self._engine.generate(request)) as stream:
            async for item in stream:
                if isinstance(item, Finished):
                    return item.text, item
                assert isinstance(item, Piece)
                text, form = text + item.text, item.form
                served, warning = item.served, item.warning
                pieces += 1
                first = first or time.perf_counter()
                if finished_early(text, around, "\n" not in stops):
                    break
        now = time.perf_counter()
        # Stopped before the engine's own account came: what was seen from here.
        return text, Finished(
            text=text,
            reason="text",
            prompt_tokens=len(prompt.tokens),
            reused_tokens=0,
            completion_tokens=pieces,
            queue_ms=0.0,
            prefill_ms=((first or now) - started) * 1000,
            decode_ms=(now - (first or now)) * 1000,
            form=form,
            served=served,
            warning=warning,
        )


class _Clock:
    """Milliseconds by stage."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._stages: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self._stages[name] = (time.perf_counter() - started) * 1000

    def add(self, **stages: float) -> None:
        self._stages.update(stages)

    def result(self) -> dict[str, float]:
        total = (time.perf_counter() - self._started) * 1000
        order = ("context", "queue", "prefill", "decode", "trim")
        known = {name: round(self._stages.get(name, 0.0), 2) for name in order}
        return {**known, "total": round(total, 2)}


def _lf(text: str) -> str:
    return text.replace("\r\n", "\n")
