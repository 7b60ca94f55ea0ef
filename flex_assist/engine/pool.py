"""Models and contexts in memory, and what is computed with them. For one thread."""

import contextlib
import dataclasses
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from flex_assist.config import EngineSettings
from flex_assist.engine import generation
from flex_assist.engine.context import Context
from flex_assist.engine.gguf_header import check_gguf
from flex_assist.engine.healing import Vocabulary
from flex_assist.engine.interrupt import Interrupt
from flex_assist.engine.llama import Model
from flex_assist.engine.protocol import Finished, GenerateRequest, Piece, Priority, Weights

CONTEXTS: Final = 6

# A file as it was when it was read: path, time of change, size.
FileState = tuple[Path, int, int]
# Base, adapters, and who asks: chat and completion do not spoil each other's KV.
ContextKey = tuple[FileState, tuple[FileState, ...], Priority]


@dataclass(slots=True, kw_only=True)
class _LoadedModel:
    model: Model
    context_tokens: int
    vocabulary: Vocabulary | None = None

    def spelling(self) -> Vocabulary:
        """The model's tokens by their bytes; made when first needed."""
        if self.vocabulary is None:
            ids = range(self.model.vocabulary_size)
            self.vocabulary = Vocabulary(self.model.token_bytes(token) for token in ids)
        return self.vocabulary


class Pool:
    """Keeps the contexts used last, over shared weights.

    Contexts are told apart by the very state of the files, so that neither another adapter's KV nor
    an older file's is ever used.

    Attributes:
        snapshot: For people; replaced as a whole, so any thread may read it.
    """

    def __init__(self, settings: EngineSettings, contexts: int = CONTEXTS) -> None:
        self._settings = settings
        self._limit = contexts
        self._models: dict[FileState, _LoadedModel] = {}
        self._contexts: dict[ContextKey, Context] = {}
        self._leased: set[ContextKey] = set()
        self.snapshot: dict[str, Any] = {"loading": None, "models": [], "contexts": []}

    def answer(
        self, request: GenerateRequest, submitted_s: float, interrupt: Interrupt
    ) -> Iterator[Piece | Finished | None]:
        """``generation.generate`` in the right context.

        Args:
            submitted_s: ``time.perf_counter()`` when the request was made.
        """
        with self._lease(request.weights, request.priority) as (context, loaded):
            for item in generation.generate(context, loaded.spelling, request, interrupt):
                if isinstance(item, Finished):
                    passed_ms = (time.perf_counter() - submitted_s) * 1000
                    waited_ms = max(0.0, passed_ms - item.prefill_ms - item.decode_ms)
                    item = dataclasses.replace(item, queue_ms=waited_ms)
                yield item

    def score(
        self, weights: Weights, windows: Sequence[Sequence[int]], interrupt: Interrupt
    ) -> Iterator[list[NDArray[np.float64]] | None]:
        """``generation.score`` in the right context."""
        with self._lease(weights, Priority.BACKGROUND) as (context, _):
            yield from generation.score(context, windows, interrupt)

    def warm(self, weights: Weights, interrupt: Interrupt) -> Iterator[None]:
        """Load what completions need, and read the weights from disk once."""
        with self._lease(weights, Priority.COMPLETION) as (context, loaded):
            loaded.spelling()
            if not context.length:
                context.prefill([0], interrupt)
                context.clear()
            yield None

    def unload(self) -> Iterator[None]:
        """Free all that is not in use."""
        self._free([key for key in self._contexts if key not in self._leased])
        self._publish()
        yield None

    def close(self) -> None:
        """Free everything."""
        self._leased.clear()
        self._free(list(self._contexts))
        self._publish()

    @contextlib.contextmanager
    def _lease(self, weights: Weights, role: Priority) -> Iterator[tuple[Context, _LoadedModel]]:
        base = _state(weights.model, "model")
        adapters = tuple(_state(adapter, "adapter") for adapter in weights.adapters)
        key = (base, adapters, role)
        assert key not in self._leased, "two jobs in one context"
        loaded = self._load(base)
        context = self._contexts.pop(key, None) or self._open(loaded, adapters)
        self._contexts[key] = context
        self._leased.add(key)
        self._make_room()
        self._publish()
        try:
            yield context, loaded
        finally:
            self._leased.discard(key)
            self._publish()

    def _load(self, base: FileState) -> _LoadedModel:
        if base not in self._models:
            self._publish(loading=base[0])
            try:
                model = Model.load(base[0], gpu_layers=self._settings.gpu_layers)
            finally:
                self._publish()
            trained = model.facts().context_tokens or self._settings.context_tokens
            tokens = min(self._settings.context_tokens, trained)
            self._models[base] = _LoadedModel(model=model, context_tokens=tokens)
        return self._models[base]

    def _open(self, loaded: _LoadedModel, adapters: tuple[FileState, ...]) -> Context:
        attached = [loaded.model.load_adapter(adapter[0]) for adapter in adapters]
        threads = self._settings.threads or available_threads()
        return Context(loaded.model, attached, loaded.context_tokens, threads)

    def _make_room(self) -> None:
        if len(self._contexts) > self._limit:
            idle = [key for key in self._contexts if key not in self._leased]
            self._free(idle[: len(self._contexts) - self._limit])

    def _free(self, keys: list[ContextKey]) -> None:
        """Close contexts, and the adapters and models that no other uses."""
        for key in keys:
            context = self._contexts.pop(key)
            context.close()
            kept = [one for other in self._contexts.values() for one in other.adapters]
            for adapter in context.adapters:
                if all(one is not adapter for one in kept):
                    context.model.free_adapter(adapter)
        used = {base for base, _, _ in self._contexts}
        for base in [base for base in self._models if base not in used]:
            self._models.pop(base).model.close()

    def _publish(self, loading: Path | None = None) -> None:
        self.snapshot = {
            "loading": str(loading) if loading is not None else None,
            "models": [
                {"path": str(state[0]), "size_bytes": loaded.model.size_bytes}
                for state, loaded in self._models.items()
            ],
            "contexts": [
                {
                    "model": str(base[0]),
                    "adapters": [str(adapter[0]) for adapter in adapters],
                    "role": role.name.lower(),
                    "tokens": context.length,
                }
                for (base, adapters, role), context in self._contexts.items()
            ],
        }


def available_threads() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _state(path: Path, what: str) -> FileState:
    real = check_gguf(path, what)
    status = real.stat()
    return real, status.st_mtime_ns, status.st_size
