"""A llama.cpp context: KV, decoding, logits, scoring."""

import ctypes
import functools
import sys
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from flex_assist.engine.interrupt import Interrupt, Paused
from flex_assist.engine.llama import Adapter, Model, native
from flex_assist.engine.prefix import KeptPrefix, shared
from flex_assist.errors import Cancelled, EngineError, ModelError

MORE_ROOM = (
    "raise engine.context_tokens and run `flex-assist engine stop`: a host keeps the settings that "
    "it was started with"
)
# Logits kept of one decode: bounds the memory that scoring takes (rows x vocabulary x 4 bytes).
SCORED_TOKENS: Final = 128
_ABORTED: Final = 2
_NO_ROOM: Final = 1


class NoMemoryError(EngineError):
    """There is no room for another context."""


class Context:
    """KV of one token sequence under one set of weights, and the logits of its end.

    After any error, abort included, ``tokens`` is still exactly what the KV holds.

    Attributes:
        document: Whose prompts it was used for last; see ``kept``.

    Args:
        adapters: The sum of their updates is added to the model's weights.
        context_tokens: Most tokens of the sequence.
        batch_tokens: Most tokens of one decode.
    """

    def __init__(
        self,
        model: Model,
        adapters: Sequence[Adapter],
        context_tokens: int,
        threads: int,
        batch_tokens: int = 512,
    ) -> None:
        self.model = model
        self.adapters = tuple(adapters)
        self.context_tokens = context_tokens
        self.batch_tokens = min(batch_tokens, context_tokens)
        self.document = ""
        self._threads, self._in_haste = threads, True
        self._tokens: list[int] = []
        self._rows = 0
        self._handle = native.llama_init_from_model(
            model.handle, _context_parameters(context_tokens, self.batch_tokens, threads)
        )
        if not self._handle:
            raise NoMemoryError(
                f"no memory for a context of {context_tokens} tokens of {model.path.name!r}; "
                "lower engine.context_tokens"
            )
        self._memory = native.llama_get_memory(self._handle)
        self._batch = native.llama_batch_init(self.batch_tokens, 0, 1)
        if self.adapters:
            self._attach()

    @property
    def tokens(self) -> tuple[int, ...]:
        """What the KV holds."""
        return tuple(self._tokens)

    @property
    def length(self) -> int:
        """How many tokens the KV holds."""
        return len(self._tokens)

    def hurry(self, haste: bool) -> None:
        """Write token by token with all threads, or with half of them where nobody waits for it.

        The numbers are the same: each is computed by one thread. A token takes longer, and less of
        the processor's time: threads wait for memory, and for each other.
        """
        if haste == self._in_haste:
            return
        one_by_one = self._threads if haste else max(1, self._threads // 2)
        native.llama_set_n_threads(self.handle, one_by_one, self._threads)
        self._in_haste = haste

    def prefill(self, tokens: Sequence[int], interrupt: Interrupt | None = None) -> int:
        """Make the KV hold ``tokens`` and the logits be those after the last one.

        Returns:
            How many tokens were there already.

        Raises:
            Cancelled, Paused: Interrupted; whole batches that were done are kept.
            EngineError: ``tokens`` is empty, too long, or not of this vocabulary.
        """
        reused = self.keep_prefix(tokens)
        for start in range(reused, len(tokens), self.batch_tokens):
            self.extend(tokens[start : start + self.batch_tokens], interrupt)
        return reused

    def keep_prefix(self, tokens: Sequence[int]) -> int:
        """Drop all KV but what ``tokens`` begins with, short of its last token; its length."""
        self.check(tokens)
        self._truncate(shared(self._tokens, tokens[:-1]))
        return len(self._tokens)

    def extend(
        self, tokens: Sequence[int], interrupt: Interrupt | None = None, *, every: bool = False
    ) -> None:
        """Decode at most ``batch_tokens`` more tokens at once.

        Args:
            every: Compute the logits after each (at most ``SCORED_TOKENS``), for ``losses``.

        Raises:
            Cancelled, Paused, EngineError: Nothing was added.
        """
        held = len(self._tokens)
        if interrupt is not None and interrupt.is_set():
            raise _stopped(interrupt)
        if held + len(tokens) > self.context_tokens:
            raise EngineError(
                f"{held + len(tokens)} tokens do not fit a context of {self.context_tokens}; "
                f"{MORE_ROOM}"
            )
        self._fill(tokens, held, every)
        self._rows = 0
        self._on_interrupt(interrupt)
        result = native.llama_decode(self.handle, self._batch)
        if result == 0:
            self._tokens.extend(tokens)
            self._rows = len(tokens) if every else 1
            return
        # An aborted or failed batch of several parts leaves those that were done.
        self._truncate(held)
        if result == _ABORTED and interrupt is not None:
            raise _stopped(interrupt)
        why = "no room in the KV" if result == _NO_ROOM else f"llama.cpp's code {result}"
        raise EngineError(f"decoding {len(tokens)} tokens failed ({why}); ask again")

    def append(self, token: int, interrupt: Interrupt | None = None) -> None:
        """Decode one more token."""
        self.extend((token,), interrupt)

    def logits(self) -> NDArray[np.float32]:
        """A copy of the logits after the last token. Shape (vocabulary,)."""
        last: NDArray[np.float32] = self._logits()[-1].copy()
        return last

    def losses(self, following: Sequence[int]) -> NDArray[np.float64]:
        """-log p of the token after each of the last ``extend(…, every=True)``, in nats.

        Args:
            following: One id for each, or for all but the last.
        """
        losses = np.empty(len(following))
        for index, (row, token) in enumerate(zip(self._logits(), following, strict=False)):
            exact = row.astype(np.float64)
            highest = exact.max()
            losses[index] = np.log(np.exp(exact - highest).sum()) + highest - exact[token]
        return losses

    def score(
        self, tokens: Sequence[int], interrupt: Interrupt | None = None
    ) -> NDArray[np.float64]:
        """-log p in nats of each token but the first, given those before it. Shape (n - 1,).

        Always from an empty KV, in the same batches, so that two runs agree to the bit.
        """
        self.check(tokens)
        self.clear()
        parts = [np.zeros(0)]
        for start, end in self.scored_steps(len(tokens)):
            self.extend(tokens[start:end], interrupt, every=True)
            parts.append(self.losses(tokens[start + 1 : end + 1]))
        return np.concatenate(parts)

    def scored_steps(self, length: int) -> list[tuple[int, int]]:
        """Bounds of the batches in which ``length`` tokens are scored; the last needs no logits."""
        step = min(SCORED_TOKENS, self.batch_tokens)
        return [(start, min(start + step, length - 1)) for start in range(0, length - 1, step)]

    def saved(self, most_bytes: int) -> KeptPrefix | None:
        """A copy of the KV; None if it is larger than that, or this model's cannot be copied."""
        size = native.llama_state_seq_get_size(self.handle, 0)
        if not 0 < size <= most_bytes:
            return None
        state = np.empty(size, dtype=np.uint8)
        written = native.llama_state_seq_get_data(self.handle, _bytes_of(state), size, 0)
        return KeptPrefix(tokens=self.tokens, state=state) if written == size else None

    def restore(self, kept: KeptPrefix) -> None:
        """Hold exactly what was saved, or nothing if that is not possible.

        Args:
            kept: Of a context of the same weights and settings: llama.cpp trusts its bytes.
        """
        self.clear()
        size = kept.state.nbytes
        read = native.llama_state_seq_set_data(self.handle, _bytes_of(kept.state), size, 0)
        if read == size and len(kept.tokens) <= self.context_tokens:
            self._tokens = list(kept.tokens)
        else:
            self.clear()

    def clear(self) -> None:
        """Forget everything."""
        native.llama_memory_clear(self._memory, False)
        self._tokens.clear()
        self._rows = 0

    def close(self) -> None:
        """Free the KV and the buffers."""
        if self._handle is not None:
            native.llama_batch_free(self._batch)
            native.llama_free(self._handle)
            self._handle = None

    @property
    def handle(self) -> Any:
        """The native context.

        Raises:
            EngineError: It was closed.
        """
        if self._handle is None:
            raise EngineError("the context is closed; make another")
        return self._handle

    def _attach(self) -> None:
        count = len(self.adapters)
        handles = (native.llama_adapter_lora_p_ctypes * count)(*(a.handle for a in self.adapters))
        scales = (ctypes.c_float * count)(*(1.0,) * count)
        if native.llama_set_adapters_lora(self.handle, handles, count, scales) != 0:
            self.close()
            paths = ", ".join(str(adapter.path) for adapter in self.adapters)
            raise ModelError(f"the adapters {paths!r} cannot be used; adapt again")

    def check(self, tokens: Sequence[int]) -> None:
        """Refuse a prompt that cannot be decoded.

        Raises:
            EngineError: It is empty, too long, or not of this vocabulary.
        """
        if not tokens:
            raise EngineError("the prompt is empty; give it at least one token")
        if len(tokens) > self.context_tokens:
            raise EngineError(
                f"the prompt has {len(tokens)} tokens and the context {self.context_tokens}; "
                f"{MORE_ROOM}"
            )
        wrong = next((t for t in tokens if not 0 <= t < self.model.vocabulary_size), None)
        if wrong is not None:
            raise EngineError(
                f"the prompt has the token {wrong!r}, and {self.model.path.name!r} knows only "
                f"{self.model.vocabulary_size}; tokenize it with this model"
            )

    def _fill(self, tokens: Sequence[int], held: int, every: bool) -> None:
        batch, last = self._batch, len(tokens) - 1
        batch.n_tokens = len(tokens)
        for index, token in enumerate(tokens):
            batch.token[index] = token
            batch.pos[index] = held + index
            batch.n_seq_id[index] = 1
            batch.seq_id[index][0] = 0
            batch.logits[index] = every or index == last

    def _truncate(self, length: int) -> None:
        self._rows = 0
        if native.llama_memory_seq_rm(self._memory, 0, length, -1):
            del self._tokens[length:]
        else:
            # A recurrent model's state cannot go back: it begins anew.
            self.clear()

    def _on_interrupt(self, interrupt: Interrupt | None) -> None:
        if interrupt is None:
            native.llama_set_abort_callback(self.handle, native.ggml_abort_callback(), None)
        else:
            native.llama_set_abort_callback(self.handle, _string_length(), interrupt.address)

    def _logits(self) -> NDArray[np.float32]:
        if not self._rows:
            raise EngineError("there are no logits: nothing was decoded since the last change")
        pointer = native.llama_get_logits(self.handle)
        return np.ctypeslib.as_array(pointer, shape=(self._rows, self.model.vocabulary_size))


def _context_parameters(context_tokens: int, batch_tokens: int, threads: int) -> Any:
    parameters = native.llama_context_default_params()
    parameters.n_ctx = context_tokens
    parameters.n_batch = parameters.n_ubatch = batch_tokens
    parameters.n_outputs_max = min(SCORED_TOKENS, batch_tokens)
    parameters.n_outputs_max_per_seq = parameters.n_outputs_max
    parameters.n_threads = parameters.n_threads_batch = threads
    parameters.no_perf = True
    return parameters


def _bytes_of(state: NDArray[np.uint8]) -> Any:
    return state.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))


def _stopped(interrupt: Interrupt) -> Exception:
    return Cancelled("the request was cancelled") if interrupt.cancelled else Paused()


@functools.cache
def _string_length() -> Any:
    library = ctypes.cdll.msvcrt if sys.platform == "win32" else ctypes.CDLL(None)
    return ctypes.cast(library.strlen, native.ggml_abort_callback)
