"""Our side: the language server's own session over the engine host, as an editor drives it.

All of it runs but the JSON between editor and server: documents, superseding, the wait for more
keys, what is known without a model call, and what is computed ahead.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flex_assist.adapters.router import Route
from flex_assist.complete.request import Completion, CompletionRequest
from flex_assist.complete.service import CompletionService
from flex_assist.config import EngineSettings, Settings
from flex_assist.engine.client import HostEngine
from flex_assist.engine.prefix import shared
from flex_assist.engine.protocol import Finished, GenerateRequest, Piece
from flex_assist.errors import EngineError
from flex_assist.locations import Locations
from flex_assist.models.fim import FimTokens
from flex_lsp.bench.calls import Calls
from flex_lsp.bench.typist import Buffer, Screen
from flex_lsp.document import Edit
from flex_lsp.line_index import Encoding
from flex_lsp.session import Query, Session
from flex_lsp.status import StatusBoard

READY_TIMEOUT_S = 120.0
POLL_S = 0.05
PROMPTS_KEPT = 8


@dataclass(slots=True)
class Question:
    """What was asked at one key.

    Attributes:
        open: Somebody waits for the answer; what the model does later is ahead.
        by_model: The model was asked for it.
    """

    open: bool = False
    by_model: bool = False


# The question that a task works for.
ASKED: ContextVar[Question | None] = ContextVar("ASKED", default=None)


class OneRoute:
    """Every language is answered by the one merged file."""

    def __init__(self, fim: FimTokens) -> None:
        self._route = Route(name="merged", reason="it is what is measured", fim=fim)

    def route(self, language: str | None, choice: str = "auto") -> Route:
        """The file, whatever is asked for."""
        return self._route


class CountedEngine(HostEngine):
    """The engine host, with the calls counted."""

    def __init__(self, locations: Locations, settings: EngineSettings, calls: Calls) -> None:
        super().__init__(locations, settings)
        self.calls = calls
        self._prompts: deque[tuple[int, ...]] = deque(maxlen=PROMPTS_KEPT)

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Piece | Finished, None]:
        """As the host answers.

        What a call computed comes with its end. Where it is left before (enough was said, or more
        was typed), the pieces are counted, and the prompt as far as no earlier one began the same.
        """
        calls, started_s, pieces = self.calls, time.perf_counter(), 0
        question = ASKED.get()
        waited_for = question is not None and question.open
        # One token: only to have the prompt computed.
        counts = not waited_for and request.max_tokens > 1
        calls.started += 1
        calls.ahead += not waited_for
        earlier = tuple(self._prompts)
        self._prompts.append(request.tokens)
        try:
            async with aclosing(super().generate(request)) as stream:
                async for item in stream:
                    pieces += isinstance(item, Piece)
                    if isinstance(item, Finished):
                        calls.prompt_tokens += item.prompt_tokens - item.reused_tokens
                        calls.completion_tokens += item.completion_tokens
                        calls.prefill_ms.append(item.prefill_ms)
                        calls.decode_ms.append(item.decode_ms)
                        if counts:
                            calls.answered(started_s, ahead=True)
                    yield item
        except BaseException as end:
            begun = max((shared(request.tokens, one) for one in earlier), default=0)
            calls.prompt_tokens += len(request.tokens) - begun
            calls.completion_tokens += pieces
            # Closed by who has read enough; given up by who no longer wants it.
            if not isinstance(end, GeneratorExit):
                calls.cancelled += 1
            elif counts:
                calls.answered(started_s, ahead=True)
            raise


class CountedService(CompletionService):
    """Our use case; notes when it is asked, and whether its model was."""

    def __init__(self, *, engine: CountedEngine, **others: Any) -> None:
        super().__init__(engine=engine, **others)
        self._counted = engine

    async def complete(self, request: CompletionRequest) -> Completion:
        """Complete at the cursor."""
        question, started_s = ASKED.get(), time.perf_counter()
        assert question is not None
        question.open = True
        try:
            found = await super().complete(request)
        finally:
            question.open = False
        if found.source == "model":
            question.by_model = True
            self._counted.calls.answered(started_s)
        return found


class BenchBackend:
    """Makes ``CountedService``; see ``flex_lsp.services.Backend``."""

    def __init__(self, engine: CountedEngine, locations: Locations, fim: FimTokens) -> None:
        self._engine, self._locations, self._fim = engine, locations, fim

    async def prepare(self) -> None:
        """All is imported."""

    def service(self, settings: Settings, root: Path | None) -> CountedService:
        """A service for the folder of the trace."""
        return CountedService(
            engine=self._engine, settings=settings, locations=self._locations, root=root,
            router=OneRoute(self._fim),
        )  # fmt: skip

    async def close(self) -> None:
        """Hang up."""
        await self._engine.close()


class Ours:
    """The session in an editor that asks at each key and shows what it is given."""

    def __init__(
        self,
        engine: CountedEngine,
        locations: Locations,
        fim: FimTokens,
        root: Path,
        model: Path,
    ) -> None:
        self.screen = Screen()
        self.calls = engine.calls
        self._root = root
        self._faults: list[str] = []
        board = StatusBoard(lambda status: None, self._faults.append)
        self._session = Session(
            locations=locations, backend=BenchBackend(engine, locations, fim), board=board
        )
        self._session.configure({"model": {"base": str(model)}}, Encoding.UTF32, [root])
        self._asking: set[asyncio.Task[None]] = set()

    async def open(self, buffer: Buffer) -> None:
        """The document is opened."""
        file = buffer.file
        self._session.open(self._uri(buffer), file.language_id, buffer.version, buffer.text)

    async def ready(self) -> None:
        """Load the model and the repository's index.

        Raises:
            EngineError: That takes too long.
        """
        self._session.start(watch=False)
        async with asyncio.timeout(READY_TIMEOUT_S):
            while self._session.board.current.state != "ready":
                if self._session.board.current.state == "error":
                    raise EngineError(self._session.board.current.message)
                await asyncio.sleep(POLL_S)

    def check(self) -> None:
        """Raises EngineError if any request failed: then nothing that was measured counts."""
        if self._faults:
            raise EngineError(f"our side failed: {self._faults[0]}")

    def entered(self, buffer: Buffer) -> None:
        """Nothing is told of it in the protocol."""

    def changed(self, buffer: Buffer, deleted: int, inserted: str) -> None:
        """Tell the change, and ask."""
        uri = self._uri(buffer)
        document = self._session.document(uri)
        assert document is not None
        start = buffer.cursor - len(inserted)
        edit = Edit(
            text=inserted,
            start=document.position(start, Encoding.UTF32),
            end=document.position(start + deleted, Encoding.UTF32),
        )
        self._session.change(uri, buffer.version, [edit])
        task = asyncio.get_running_loop().create_task(self._ask(buffer, buffer.version))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    async def close(self) -> None:
        """Let go of the engine."""
        for task in self._asking:
            task.cancel()
        await asyncio.gather(*self._asking, return_exceptions=True)
        await self._session.close()

    async def _ask(self, buffer: Buffer, version: int) -> None:
        document = self._session.document(self._uri(buffer))
        assert document is not None
        cursor = buffer.cursor
        question = Question()
        ASKED.set(question)
        query = Query(
            document=document,
            before=document.text[:cursor],
            after=document.text[cursor:],
            position=document.position(cursor, Encoding.UTF32),
            surface="inline",
        )
        suggestion = await self._session.suggest(query)
        if suggestion is None:
            return
        self.calls.cache_hits += bool(suggestion.text) and not question.by_model
        if buffer.version == version:
            self.screen.show(suggestion.text)

    def _uri(self, buffer: Buffer) -> str:
        return (self._root / buffer.file.path).as_uri()
