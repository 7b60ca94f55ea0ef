"""The engine in this process: for the host, for measuring, and for programs of one's own."""

import asyncio
import functools
import logging
import os
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flex_assist.config import EngineSettings
from flex_assist.engine.interrupt import Interrupt
from flex_assist.engine.protocol import (
    Finished,
    GenerateRequest,
    ModelFacts,
    Piece,
    Priority,
    TextPiece,
    Weights,
)
from flex_assist.engine.quiet import AFTER_S, Quiet
from flex_assist.engine.scheduling import END, Job, Worker
from flex_assist.engine.vocabularies import Vocabularies

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from flex_assist.engine.pool import Pool

_log = logging.getLogger(__name__)

Steps = Callable[[Interrupt], Iterator[Any]]


class LocalEngine:
    """``protocol.Engine`` in this process. Light until a model is asked for.

    All computing is done by one thread; see ``scheduling.Worker`` for who goes first.

    Args:
        speeds: The file that keeps what was measured of forms of weights; None keeps nothing.
        prefixes: The folder that keeps what was computed of the last documents; None keeps nothing.
        quiet_s: Forms are measured when nothing was asked for so long.
    """

    def __init__(
        self,
        settings: EngineSettings,
        speeds: Path | None = None,
        prefixes: Path | None = None,
        quiet_s: float = AFTER_S,
    ) -> None:
        self._settings = settings
        self._speeds = speeds
        self._prefixes = prefixes
        self._measured: set[Weights] = set()
        self._vocabularies = Vocabularies()
        self._worker = Worker(self._free)
        self._quiet = Quiet(quiet_s, lambda: any(self._worker.counts().values()))
        self._opened: Pool | None = None

    async def facts(self, model: Path) -> ModelFacts:
        """Facts of a model file; its weights are not loaded."""
        return await asyncio.to_thread(self._vocabularies.facts, model)

    async def tokenize(self, model: Path, pieces: Sequence[TextPiece]) -> list[list[int]]:
        """Token ids of each piece, without BOS or EOS."""
        return await asyncio.to_thread(self._vocabularies.tokenize, model, pieces)

    def tokenize_now(self, model: Path, pieces: Sequence[TextPiece]) -> list[list[int]]:
        """``tokenize`` for callers without an event loop."""
        return self._vocabularies.tokenize(model, pieces)

    async def byte_lengths(self, model: Path, tokens: Sequence[int]) -> list[int]:
        """How many bytes of text each token stands for; none for control tokens."""
        return list(map(len, await self.spell(model, tokens)))

    async def spell(
        self, model: Path, tokens: Sequence[int], *, control: bool = False
    ) -> list[bytes]:
        """What each token stands for. Control tokens spell nothing, or their names."""
        return await asyncio.to_thread(self._vocabularies.spell, model, tokens, control)

    def generate(self, request: GenerateRequest) -> AsyncGenerator[Piece | Finished, None]:
        """Answer piece by piece, ``Finished`` last. Closing the iterator cancels the request."""
        submitted_s = time.perf_counter()
        return self._run(
            Priority.BACKGROUND if request.ahead else request.priority,
            lambda stop: self._pool().answer(request, submitted_s, stop),
            request.weights,
        )

    async def score(
        self, weights: Weights, windows: Sequence[Sequence[int]]
    ) -> "list[NDArray[np.float64]]":
        """-log p in nats of each token but the first of each window, each from an empty context.

        Runs in the background: requests of people go first, and do not change the numbers.
        """
        scores: list[NDArray[np.float64]] = []
        steps: Steps = lambda stop: self._pool().score(weights, windows, stop)  # noqa: E731
        async for item in self._run(Priority.BACKGROUND, steps):
            scores = item
        return scores

    async def warm(self, weights: Weights) -> None:
        """Load the weights now, so that the first request does not wait for them."""
        async for _ in self._run(
            Priority.COMPLETION, lambda stop: self._pool().warm(weights, stop), weights
        ):
            pass

    async def unload(self) -> None:
        """Free all models, when the requests made so far are answered."""
        async for _ in self._run(Priority.BACKGROUND, lambda _: self._pool().unload()):
            pass
        await asyncio.to_thread(self._vocabularies.close)

    async def status(self) -> dict[str, Any]:
        """For people; answers at once, whatever is going on."""
        pool = self._opened
        memory = pool.snapshot if pool is not None else _EMPTY
        return {
            "process": os.getpid(),
            **memory,
            "queue": self._worker.counts(),
            "forms_to_measure": self._quiet.waiting,
        }

    async def close(self) -> None:
        """Cancel what is asked for and free everything."""
        self._quiet.close()
        await asyncio.to_thread(self._worker.stop)
        await asyncio.to_thread(self._vocabularies.close)

    def _pool(self) -> "Pool":
        """Only in the worker's thread."""
        if self._opened is None:
            # Not before a model is asked for: loading llama.cpp takes a while.
            from flex_assist.engine.pool import Pool

            self._opened = Pool(self._settings, self._speeds, self._prefixes)
        return self._opened

    def _free(self) -> None:
        if self._opened is not None:
            self._opened.close()

    async def _run(
        self, priority: Priority, steps: Steps, weights: Weights | None = None
    ) -> AsyncGenerator[Any, None]:
        self._quiet.asked()
        inbox: asyncio.Queue[Any] = asyncio.Queue()
        deliver = functools.partial(_deliver, asyncio.get_running_loop(), inbox)
        job = Job(priority=priority, steps=steps, deliver=deliver)
        self._worker.submit(job)
        if weights is not None:
            self._measure(weights)
        try:
            while (item := await inbox.get()) is not END:
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            job.interrupt.cancel()

    def _measure(self, weights: Weights) -> None:
        """Once, when nobody waits: which form of these weights is faster.

        The merged file may have to be loaded for that, and no key interrupts loading.
        """
        choice = weights.merged is not None and weights.adapters and self._settings.form == "auto"
        if not choice or weights in self._measured:
            return
        self._measured.add(weights)
        steps: Steps = lambda stop: self._pool().measure(weights, stop)  # noqa: E731
        job = Job(priority=Priority.BACKGROUND, steps=steps, deliver=_log_failure)
        self._quiet.then(lambda: self._worker.submit(job))


_EMPTY: dict[str, Any] = {
    "loading": None,
    "models": [],
    "contexts": [],
    "forms": [],
    "kept": {"documents": 0, "size_bytes": 0},
}


def _log_failure(item: object) -> None:
    if isinstance(item, Exception):
        _log.warning("the forms of an adapter could not be measured: %s", item)


def _deliver(loop: asyncio.AbstractEventLoop, inbox: "asyncio.Queue[Any]", item: object) -> None:
    try:
        loop.call_soon_threadsafe(inbox.put_nowait, item)
    except RuntimeError:
        # The loop is closed: nobody waits for the answer any more.
        return
