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
import psutil
from numpy.typing import NDArray

from flex_assist.config import EngineSettings
from flex_assist.engine import devices, form, generation
from flex_assist.engine.context import Context, NoMemoryError
from flex_assist.engine.form import Decision, Room, Speed
from flex_assist.engine.gguf_header import FileState, file_state
from flex_assist.engine.healing import Vocabulary
from flex_assist.engine.interrupt import Interrupt
from flex_assist.engine.kept import KeptPrefixes
from flex_assist.engine.kept_files import MOST_FILES, KeptFiles
from flex_assist.engine.llama import LIBRARY, Model
from flex_assist.engine.protocol import Finished, Form, GenerateRequest, Piece, Priority, Weights
from flex_assist.engine.speeds import Speeds, key_of
from flex_assist.errors import ModelError

CONTEXTS: Final = 6
# Of weights that were asked for last.
DECISIONS_SHOWN: Final = 16

# Base, adapters, and who asks: chat and completion do not spoil each other's KV.
ContextKey = tuple[FileState, tuple[FileState, ...], Priority]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Lease:
    """Who works in a context; ``interrupt`` is set if it gives way to whoever else needs it."""

    interrupt: Interrupt | None = None


@dataclass(slots=True, kw_only=True)
class _LoadedModel:
    model: Model
    context_tokens: int
    merged: bool
    gpu_layers: int
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

    Args:
        speeds: The file that keeps what was measured of forms; None keeps nothing.
        prefixes: The folder that keeps what was computed of the last documents; None keeps nothing.

    Attributes:
        snapshot: For people; replaced as a whole, so any thread may read it.
    """

    def __init__(
        self,
        settings: EngineSettings,
        speeds: Path | None = None,
        prefixes: Path | None = None,
        contexts: int = CONTEXTS,
    ) -> None:
        self._settings = settings
        self._speeds = Speeds(speeds)
        self._decisions: dict[Weights, Decision] = {}
        self._limit = contexts
        self._models: dict[FileState, _LoadedModel] = {}
        self._contexts: dict[ContextKey, Context] = {}
        self._leased: dict[ContextKey, _Lease] = {}
        most_bytes = int(settings.prefixes_mb * 1e6)
        self._files = KeptFiles(prefixes, most_bytes, LIBRARY)
        self._kept = KeptPrefixes(most_bytes, self._files.read)
        self.snapshot: dict[str, Any] = {}
        self._publish()

    def answer(
        self, request: GenerateRequest, submitted_s: float, interrupt: Interrupt
    ) -> Iterator[Piece | Finished | None]:
        """``generation.generate`` in the right context.

        Args:
            submitted_s: ``time.perf_counter()`` when the request was made.
        """
        chosen = self._form(request.weights)
        lease = _Lease(interrupt=interrupt if request.ahead else None)
        with self._lease(request.weights, request.priority, chosen, lease) as (key, context):
            loaded = self._models[key[0]]
            self._kept.switch(context, key[:2], request.document, request.tokens)
            context.hurry(not request.ahead)
            for item in generation.generate(context, loaded.spelling, request, interrupt):
                if isinstance(item, Finished):
                    passed_ms = (time.perf_counter() - submitted_s) * 1000
                    waited_ms = max(0.0, passed_ms - item.prefill_ms - item.decode_ms)
                    item = dataclasses.replace(item, queue_ms=waited_ms)
                yield dataclasses.replace(item, form=chosen) if item is not None else None

    def score(
        self, weights: Weights, windows: Sequence[Sequence[int]], interrupt: Interrupt
    ) -> Iterator[list[NDArray[np.float64]] | None]:
        """``generation.score`` in the right context: adapters as such, whatever form is served."""
        with self._lease(weights, Priority.BACKGROUND, _unmerged(weights)) as (_, context):
            yield from generation.score(context, windows, interrupt)

    def warm(self, weights: Weights, interrupt: Interrupt) -> Iterator[None]:
        """Load what completions need, and read the weights from disk once."""
        chosen = self._form(weights)
        with self._lease(weights, Priority.COMPLETION, chosen) as (key, context):
            self._models[key[0]].spelling()
            if not context.length:
                context.prefill([0], interrupt)
                context.clear()
            yield None

    def measure(self, weights: Weights, interrupt: Interrupt) -> Iterator[None]:
        """Find out which form of ``weights`` is faster, unless that is known or of no use."""
        key = self._key(weights)
        if self._speeds.get(key) is not None or not self._room(weights).enough:
            return
        found: dict[str, Speed] = {}
        forms: tuple[Form, ...] = ("adapter", "merged")
        for one in forms:
            with self._lease(weights, Priority.BACKGROUND, one) as (_, context):
                found[one] = yield from form.measure(context, interrupt)
        self._speeds.put(key, found)
        # What will be asked next is kept ready; what was only measured goes.
        with self._lease(weights, Priority.COMPLETION, self._form(weights)) as (next_key, _):
            self._models[next_key[0]].spelling()
        background = [each for each in self._contexts if each[2] is Priority.BACKGROUND]
        self._free([each for each in background if each not in self._leased])
        self._publish()

    def unload(self) -> Iterator[None]:
        """Free all that is not in use; the prompts of the last documents are kept on disk."""
        self._keep_on_disk()
        self._free([key for key in self._contexts if key not in self._leased])
        self._publish()
        yield None

    def close(self) -> None:
        """Free everything; the prompts of the last documents are kept on disk."""
        self._leased.clear()
        self._keep_on_disk()
        self._free(list(self._contexts))
        self._publish()

    def _keep_on_disk(self) -> None:
        """Write the prompts of the last documents, and let go of all in memory."""
        for key, context in self._contexts.items():
            if key not in self._leased:
                self._kept.put(context, key[:2])
        for weights, document, kept in self._kept.newest()[:MOST_FILES]:
            self._files.write(weights, document, kept)
        self._kept.clear()

    @contextlib.contextmanager
    def _lease(
        self, weights: Weights, role: Priority, chosen: Form, lease: _Lease | None = None
    ) -> Iterator[tuple[ContextKey, Context]]:
        """A context for one job. Who gives way is between two steps: its context is whole."""
        lease = lease or _Lease()
        merged = weights.merged if chosen == "merged" else None
        base = file_state(merged or weights.model, "model")
        adapters: tuple[FileState, ...] = ()
        if merged is None:
            adapters = tuple(file_state(adapter, "adapter") for adapter in weights.adapters)
        key = (base, adapters, role)
        if (holder := self._leased.get(key)) is not None:
            assert holder.interrupt is not None, "two jobs in one context"
            holder.interrupt.cancel()
        self._load(base, merged=merged is not None)
        if key not in self._contexts:
            self._make_room(self._limit - 1, base)
        context = self._contexts.pop(key, None) or self._open(base, adapters)
        self._contexts[key] = context
        self._leased[key] = lease
        self._publish()
        try:
            yield key, context
        finally:
            if self._leased.get(key) is lease:
                del self._leased[key]
            self._publish()

    def _form(self, weights: Weights) -> Form:
        """Which form answers now. What cannot be loaded merged is served as adapters."""
        if weights.merged is None:
            return _unmerged(weights)
        try:
            decision = self._decided(weights)
            if decision.form == "merged":
                self._load(file_state(weights.merged, "model"), merged=True)
        except ModelError as error:
            if not weights.adapters:
                raise
            decision = Decision(form="adapter", why=str(error))
        self._decisions.pop(weights, None)
        self._decisions[weights] = decision
        for old in list(self._decisions)[:-DECISIONS_SHOWN]:
            del self._decisions[old]
        return decision.form

    def _decided(self, weights: Weights) -> Decision:
        if not weights.adapters:
            return Decision(form="merged", why="there is no adapter beside it")
        wanted = self._settings.form
        speeds = self._speeds.get(self._key(weights)) if wanted == "auto" else None
        return form.decide(wanted, self._room(weights), speeds)

    def _key(self, weights: Weights) -> str:
        """Under which speeds are kept: an adapter that was replaced is measured anew."""
        assert weights.merged is not None
        files = (weights.model, *weights.adapters, weights.merged)
        states = [file_state(path, "model") for path in files]
        threads = self._settings.threads or available_threads()
        return key_of(states, threads, self._settings.gpu_layers, LIBRARY)

    def _room(self, weights: Weights) -> Room:
        """Memory for the merged file of ``weights`` beside those of other adapters."""
        assert weights.merged is not None
        merged = file_state(weights.merged, "model")
        loaded = {state: one for state, one in self._models.items() if one.merged}
        used = sum(state[2] for state in loaded if state != merged)
        limit = self._settings.memory_mb * 1e6
        return Room(
            needed=0 if merged in loaded else merged[2],
            used=used,
            limit=limit or form.FREE_SHARE * (psutil.virtual_memory().available + used),
        )

    def _load(self, base: FileState, *, merged: bool) -> _LoadedModel:
        if base not in self._models:
            self._publish(loading=base[0])
            try:
                self._let_go_of_earlier(base)
                settings = self._settings
                model, layers = devices.load(base[0], settings.gpu_layers, settings.context_tokens)
            finally:
                self._publish()
            trained = model.facts().context_tokens or settings.context_tokens
            self._models[base] = _LoadedModel(
                model=model, context_tokens=min(settings.context_tokens, trained), merged=merged,
                gpu_layers=layers,
            )  # fmt: skip
        return self._models[base]

    def _open(self, base: FileState, adapters: tuple[FileState, ...]) -> Context:
        loaded = self._models[base]
        threads = self._settings.threads or available_threads()

        def attempt() -> Context:
            attached = [loaded.model.load_adapter(adapter[0]) for adapter in adapters]
            return Context(loaded.model, attached, loaded.context_tokens, threads)

        try:
            return attempt()
        except NoMemoryError:
            # A GPU may have room for fewer than the limit allows.
            self._make_room(0, base)
            return attempt()

    def _let_go_of_earlier(self, base: FileState) -> None:
        """A file that was replaced is not held twice."""
        earlier = [key for key in self._contexts if key[0][0] == base[0] and key[0] != base]
        self._free([key for key in earlier if key not in self._leased])

    def _make_room(self, most: int, base: FileState) -> None:
        """Leave at most so many contexts, if enough are idle, and the model that is to have one."""
        idle = [key for key in self._contexts if key not in self._leased]
        gone = idle[: max(0, len(self._contexts) - most)]
        for key in gone:
            self._kept.put(self._contexts[key], key[:2])
        self._free(gone, base)

    def _free(self, keys: list[ContextKey], spared: FileState | None = None) -> None:
        """Close contexts, and the adapters and models that no other uses, but for one model."""
        for key in keys:
            context = self._contexts.pop(key)
            context.close()
            kept = [one for other in self._contexts.values() for one in other.adapters]
            for adapter in context.adapters:
                if all(one is not adapter for one in kept):
                    context.model.free_adapter(adapter)
        used = {spared, *(base for base, _, _ in self._contexts)}
        for base in [base for base in self._models if base not in used]:
            self._models.pop(base).model.close()

    def _publish(self, loading: Path | None = None) -> None:
        self.snapshot = {
            "loading": str(loading) if loading is not None else None,
            "models": [
                {
                    "path": str(state[0]),
                    "size_bytes": loaded.model.size_bytes,
                    "gpu_layers": loaded.gpu_layers,
                }
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
            "kept": {"documents": len(self._kept), "size_bytes": self._kept.size_bytes},
            "forms": [
                {
                    "adapters": [str(adapter) for adapter in weights.adapters],
                    "merged": str(weights.merged),
                    "form": decision.form,
                    "why": decision.why,
                }
                for weights, decision in self._decisions.items()
            ],
        }


def _unmerged(weights: Weights) -> Form:
    return "adapter" if weights.adapters else "base"


def available_threads() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
