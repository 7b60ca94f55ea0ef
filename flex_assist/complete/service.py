"""The one use case behind the editors, the command line and the benchmarks."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from flex_assist.adapters.router import BASE, Route, Router, Routes
from flex_assist.complete.ahead import Ahead
from flex_assist.complete.cache import CompletionCache, Place, files_of
from flex_assist.complete.context import RepositoryContext
from flex_assist.complete.explanation import explanation
from flex_assist.complete.flight import Flight
from flex_assist.complete.prompting import Prompter
from flex_assist.complete.question import Clock, Question
from flex_assist.complete.region import Region, at_cursor
from flex_assist.complete.request import Completion, CompletionRequest
from flex_assist.complete.surroundings import Surroundings, has_windows_line_ends
from flex_assist.complete.trim import trim
from flex_assist.complete.writing import Check, Writing
from flex_assist.config import Settings
from flex_assist.engine.prefix import shared
from flex_assist.engine.protocol import Engine, GenerateRequest, Weights
from flex_assist.errors import FlexAssistError, ModelError
from flex_assist.locations import Locations
from flex_assist.models import store
from flex_assist.repository.outgoing import Outgoing

# Fewer new tokens are read while the answer is waited for.
LEAST_PREPARED_TOKENS = 48
# Beyond the wait for more keys, a call goes on for so long though its request was given up.
GRACE_S = 0.2
BEGUN = "the beginning; the rest comes with the next key"
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
        self._root = root
        self._context = context or RepositoryContext(root, settings, locations=locations)
        self._router = router or Router(locations, root, settings.model.base)
        self._outgoing: Outgoing | None = None
        if settings.remote.url and root is not None:
            self._outgoing = Outgoing(root, submodules=settings.mining.submodules)
        self._prompter = Prompter(engine, settings, self._context)
        self._model: Path | None = None
        self._finding: asyncio.Task[Path] | None = None
        self._cache = CompletionCache()
        self._ahead = Ahead(settings.completion.ahead_share)
        self._flight: Flight | None = None
        self._rest: asyncio.Task[None] | None = None
        self._preparing: asyncio.Task[None] | None = None
        self._asked: tuple[Weights, str, tuple[int, ...]] | None = None

    async def complete(self, request: CompletionRequest) -> Completion:
        """Complete at the cursor. Cancel the task to cancel the work.

        Raises:
            EngineError, ModelError: With a message for people.
            ConfigError: The request names an adapter that does not exist.
        """
        started = time.perf_counter()
        region = self._region(request)
        model = await self._base()
        return await self._routed(
            _name(region),
            request.adapter,
            lambda route: self._complete(
                self._question(request, region, route, model, started), request.fresh
            ),
        )

    def recall(self, request: CompletionRequest) -> Completion | None:
        """The answer if it is known without a model call. Quick: to be asked at each key.

        Raises:
            ConfigError: As ``complete``.
        """
        if self._model is None:
            return None
        started = time.perf_counter()
        region = self._region(request)
        route = self._router.route(_name(region), request.adapter)
        return self._recall(self._question(request, region, route, self._model, started))

    def prepare(self, request: CompletionRequest) -> None:
        """Let the engine read what a completion here will be asked with, if that is much.

        For the time in which nobody asks yet: it gives way to whatever is asked. A server of
        others is not asked for what may not be wanted.
        """
        if self._outgoing:
            return
        if self._preparing is None or self._preparing.done():
            self._preparing = asyncio.get_running_loop().create_task(self._prepare(request))

    async def _prepare(self, request: CompletionRequest) -> None:
        try:
            region, model = self._region(request), await self._base()
            route = self._router.route(_name(region), request.adapter)
            question = self._question(request, region, route, model, time.perf_counter())
            asked = await self._prompter.prompt(question)
            tokens = asked.prompt.tokens
            weights, document, read = self._asked or (None, "", ())
            if (weights, document) != (question.weights, self._document(question)):
                read = ()
            if len(tokens) - shared(read, tokens) < LEAST_PREPARED_TOKENS:
                return
            generate = self._request(question, tokens, ahead=True, max_tokens=1)
            writing = Writing(self._engine.generate(generate), len(tokens), asked)
            try:
                await writing.run(question.is_finished)
            finally:
                await writing.close()
        except FlexAssistError:
            # Whoever asks gets the error.
            return

    def _region(self, request: CompletionRequest) -> Region:
        region = at_cursor(
            _lf(request.before),
            _lf(request.after),
            path=request.path,
            language_id=request.language_id,
        )
        return self._known(region, request.adapter)

    def _known(self, region: Region, adapter: str) -> Region:
        """The code in a string where an adapter has learnt its language, else the code around."""
        if region.outer is None or region.language is None:
            return region
        learnt = adapter == "auto" and self._router.route(region.language.name).adapters
        return region if learnt else region.outer

    def _question(
        self, request: CompletionRequest, region: Region, route: Route, model: Path, started: float
    ) -> Question:
        around = Surroundings(before=region.before, after=region.after, language=_name(region))
        weights, path = route.weights(model), self._context.relative(request.path)
        files = files_of(weights)
        place = None
        if files is not None:
            place = Place(
                weights=weights, files=files, fim=route.fim, language=_name(region), path=path,
                stops=region.stops, context=(self._context.version, request.edited),
            )  # fmt: skip
        return Question(
            request=request,
            around=around,
            language=region.language,
            route=route,
            weights=weights,
            path=path,
            stops=region.stops,
            crlf=has_windows_line_ends(request.before, request.after),
            place=place,
            started=started,
        )

    def _recall(self, question: Question) -> Completion | None:
        if question.place is None:
            return None
        found = self._cache.find(question.place, question.around)
        if found is None:
            return None
        if found.source == "ahead":
            self._ahead.used()
        self._go_on(question, found)
        return _finish(found, question, Clock(question.started))

    async def _complete(self, question: Question, fresh: bool) -> Completion:
        if not fresh:
            if (known := self._recall(question)) is not None:
                return known
            # What was typed since may be just what is being written.
            joined = self._flight is not None and await self._flight.leads_to(question)
            if joined and (known := self._recall(question)) is not None:
                return known
        self._stop_what_nobody_waits_for()
        grace_s = self._settings.completion.debounce_ms / 1000 + GRACE_S
        flight = Flight(question, lambda flight: self._fly(flight, question), grace_s)
        self._flight = flight
        return await flight.join()

    async def _fly(self, flight: Flight, question: Question) -> Completion:
        clock = Clock(question.started)
        writing = flight.writing = await self._ask(question, clock)
        try:
            whole = await writing.run(question.is_finished, question.is_due)
        except BaseException:
            await writing.close()
            raise
        answer = self._answer(question, writing, clock, whole)
        if question.place is not None:
            self._cache.put(question.place, question.around, answer)
        if whole:
            self._go_on(question, answer)
        else:
            self._rest = asyncio.create_task(self._write_on(question, writing, answer))
        return _finish(answer, question, clock)

    async def _write_on(self, question: Question, writing: Writing, shown: Completion) -> None:
        """Let the model write the rest, for whoever asks at the next key.

        For as long as a first answer, if it can be gone on with later.
        """
        clock, before_ms = Clock(time.perf_counter()), writing.written_ms

        def enough(text: str) -> bool:
            return question.is_enough(text, writing.written_ms - before_ms, shown.text)

        try:
            due = enough if self._computes_ahead else None
            whole = await writing.run(question.is_finished, due)
            answer = self._answer(question, writing, clock, whole)
            if question.place is not None and answer.text.startswith(shown.text):
                self._cache.put(question.place, question.around, answer)
        except FlexAssistError:
            # What is shown stays as it is.
            return
        finally:
            await writing.close()

    @property
    def _computes_ahead(self) -> bool:
        return bool(self._settings.completion.ahead_share) and not self._outgoing

    def _stop_what_nobody_waits_for(self) -> None:
        if self._flight is not None:
            self._flight.give_up()
        self._ahead.stop()
        for task in (self._rest, self._preparing):
            if task is not None:
                task.cancel()
        self._rest = self._preparing = None

    def _go_on(self, question: Question, shown: Completion) -> None:
        """Compute what comes behind what is shown now, if nothing else is to be done.

        What was left in its middle is gone on with. Where nothing is shown at the end of a line,
        the next key is likely to break it.
        """
        if question.place is None or not self._computes_ahead:
            return
        if BEGUN in shown.notes:
            if self._rest is not None and not self._rest.done():
                # More is being written as it is.
                return
            same = replace(question, lines=shown.several)
            key = (shown.text, question.around)
            self._ahead.begin(key, lambda: self._write_rest(same, shown), guess=False)
            return
        following = question.behind(shown.text) if shown.text else question.next_line()
        if following is None or self._cache.has(question.place, following.around):
            return

        self._ahead.begin(following.around, lambda: self._compute_ahead(following))

    async def _write_rest(self, question: Question, shown: Completion) -> None:
        """Go on with an answer that was left, as if it had not been."""
        assert question.place is not None
        clock, begun = Clock(time.perf_counter()), shown.text
        writing, whole = await self._written_ahead(
            question.behind(begun),
            clock,
            lambda text: question.is_finished(begun + text),
            lambda text, written_ms: question.is_enough(begun + text, written_ms, begun),
        )
        answer = self._answer(question, writing, clock, whole, begun)
        if not answer.text.startswith(begun):
            # Its filters would take something of what is shown: that is all, then.
            answer = replace(shown, notes=tuple(note for note in shown.notes if note != BEGUN))
        self._cache.put(question.place, question.around, answer)

    async def _compute_ahead(self, question: Question) -> None:
        assert question.place is not None
        clock = Clock(time.perf_counter())
        writing, whole = await self._written_ahead(
            question, clock, question.is_finished, question.is_enough_ahead
        )
        answer = replace(self._answer(question, writing, clock, whole), source="ahead")
        self._cache.put(question.place, question.around, answer)
        if whole and not answer.text and (line := question.next_line()) is not None:
            await self._compute_ahead(line)

    async def _written_ahead(
        self,
        question: Question,
        clock: Clock,
        finished: Check,
        enough: Callable[[str, float], bool],
    ) -> tuple[Writing, bool]:
        """What the model writes though nobody waits for it, and whether that is all.

        Args:
            enough: Of the text, and milliseconds since its first token.
        """
        writing = await self._ask(question, clock, ahead=True)
        try:
            whole = await writing.run(finished, lambda text: enough(text, writing.written_ms))
        finally:
            await writing.close()
        return writing, whole

    async def _ask(self, question: Question, clock: Clock, ahead: bool = False) -> Writing:
        with clock.stage("context"):
            asked = await self._prompter.prompt(question)
        tokens = asked.prompt.tokens
        generate = self._request(question, tokens, ahead, self._settings.completion.max_tokens)
        if self._outgoing:
            request = question.request
            others = [chunk.path for chunk in asked.chunks]
            kept = await self._outgoing.objection(
                request.path, request.before, request.after, others
            )
            generate = replace(generate, keep_local=kept)
        return Writing(self._engine.generate(generate), len(tokens), asked)

    def _request(
        self, question: Question, tokens: tuple[int, ...], ahead: bool, max_tokens: int
    ) -> GenerateRequest:
        document = self._document(question)
        self._asked = (question.weights, document, tokens)
        return GenerateRequest(
            weights=question.weights,
            tokens=tokens,
            heal=True,
            max_tokens=max_tokens,
            stop_texts=question.stop_texts,
            document=document,
            ahead=ahead,
        )

    def _document(self, question: Question) -> str:
        return f"{self._root or ''}/{question.path or ''}"

    def _answer(
        self, question: Question, writing: Writing, clock: Clock, whole: bool, begun: str = ""
    ) -> Completion:
        """What is shown of ``begun`` and what was written behind it, in LF line ends."""
        finished, reason = writing.account(), question.route.reason
        text = begun + writing.text
        text = text if whole else question.beginning(text)
        with clock.stage("trim"):
            shown, notes = trim(
                text, question.around, several=question.several, ended_by=finished.reason
            )
        explained = explanation(
            writing.asked, written=text, ended_by=finished.reason, shown=shown, notes=notes
        )
        clock.add(queue=finished.queue_ms, prefill=finished.prefill_ms, decode=finished.decode_ms)
        return Completion(
            text=shown,
            language=question.language.name if question.language else None,
            adapter=question.route.name,
            reason=f"{reason}; {finished.served}" if finished.served else reason,
            form=finished.form,
            prompt_tokens=finished.prompt_tokens,
            reused_tokens=finished.reused_tokens,
            completion_tokens=finished.completion_tokens,
            several=question.several,
            notes=notes if whole else (*notes, BEGUN),
            explanation=explained,
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
        self._stop_what_nobody_waits_for()
        self._model = None
        self._context.forget()
        self._cache.clear()
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
        """The file of the base. It may have to be made first: once, whoever gives up meanwhile."""
        if self._model is None:
            if self._finding is None or self._finding.done():
                base = self._settings.model.base
                finding = asyncio.to_thread(store.answering_path, base, self._locations)
                self._finding = asyncio.create_task(finding)
            self._model = await asyncio.shield(self._finding)
        return self._model


def _finish(answer: Completion, question: Question, clock: Clock) -> Completion:
    """The answer with the document's line ends, and what it took."""
    text = answer.text.replace("\n", "\r\n") if question.crlf else answer.text
    return replace(answer, text=text, timings_ms=clock.result())


def _name(region: Region) -> str | None:
    return region.language.name if region.language else None


def _lf(text: str) -> str:
    return text.replace("\r\n", "\n")
