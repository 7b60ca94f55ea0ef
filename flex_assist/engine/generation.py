"""From logits to text: one request, step by step.

The functions here are generators that give control back (None) after each decode, so that one
thread can serve several requests and a more urgent one goes first.
"""

import codecs
import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from flex_assist.engine.healing import Vocabulary
from flex_assist.engine.interrupt import Interrupt, Paused
from flex_assist.engine.protocol import Finished, GenerateRequest, Piece
from flex_assist.errors import EngineError

if TYPE_CHECKING:
    from flex_assist.engine.context import Context

# Prompt tokens of one decode. Small enough that what an interrupt throws away is little; on a CPU
# larger ones are not faster.
PROMPT_STEP_TOKENS: Final = 128
MOST_HEALED_TOKENS: Final = 8

Reason = Literal["end", "text", "length"]


class Stopwatch:
    """Adds up the time of several stretches."""

    __slots__ = ("_started", "total_ms")

    def __init__(self) -> None:
        self.total_ms = 0.0
        self._started = 0.0

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *exception: object) -> None:
        self.total_ms += (time.perf_counter() - self._started) * 1000


class Answer:
    """The text of an answer as its tokens come, cut before the first stop text.

    Args:
        forced: What the answer is known to begin with; a stop text inside it does not count.
        hidden: Whether ``forced`` is left out of the text (token healing).
    """

    def __init__(
        self, stop_texts: Sequence[str], forced: bytes = b"", hidden: bool = False
    ) -> None:
        self._stops = tuple(stop for stop in stop_texts if stop)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._free_from = len(forced.decode("utf-8", "replace"))
        self._hidden = self._free_from if hidden else 0
        self._given = self._hidden
        self.text = ""
        self.stopped = False

    def add(self, data: bytes) -> str:
        """Take a token's bytes; what can be shown now, which may be nothing."""
        searched = len(self.text)
        self.text += self._decoder.decode(data)
        longest = max(map(len, self._stops), default=1)
        start = max(self._free_from, searched - longest + 1)
        hits = [hit for stop in self._stops if (hit := self.text.find(stop, start)) >= 0]
        if hits:
            self.text = self.text[: min(hits)]
            self.stopped = True
        return self._give(len(self.text) if self.stopped else self._safe_length())

    def rest(self) -> str:
        """What was held back. Bytes of a character that did not come whole are dropped."""
        return self._give(len(self.text))

    def shown(self) -> str:
        """The whole answer so far."""
        return self.text[self._hidden :]

    def _give(self, length: int) -> str:
        shown = self.text[self._given : length]
        self._given = max(self._given, length)
        return shown

    def _safe_length(self) -> int:
        """Up to where no stop text can begin any more."""
        longest = max(map(len, self._stops), default=1)
        for start in range(max(self._free_from, len(self.text) - longest + 1), len(self.text)):
            tail = self.text[start:]
            if any(stop.startswith(tail) for stop in self._stops):
                return start
        return len(self.text)


class Sampler:
    """Picks tokens; the same seed and logits pick the same."""

    def __init__(self, temperature: float, top_p: float, seed: int) -> None:
        self._temperature = temperature
        self._top_p = top_p
        self._random = np.random.default_rng(seed)

    def pick(self, logits: NDArray[np.float32]) -> int:
        """The likeliest token (the lowest id of equals), or one drawn from the nucleus."""
        if self._temperature <= 0:
            return int(np.argmax(logits))
        scaled = logits.astype(np.float64) / self._temperature
        weights = np.exp(scaled - scaled.max())
        probabilities = weights / weights.sum()
        # Tokens of at most (1 - top_p) / n each cannot be needed to reach top_p: not sorted.
        least = (1 - self._top_p) / len(probabilities)
        ids = np.flatnonzero(probabilities > least)
        ids = ids[np.argsort(-probabilities[ids], kind="stable")]
        reached = np.cumsum(probabilities[ids])
        count = int(np.searchsorted(reached, min(self._top_p, reached[-1]))) + 1
        draw = self._random.random() * reached[min(count, len(ids)) - 1]
        index = int(np.searchsorted(reached, draw, side="right"))
        return int(ids[min(index, count - 1, len(ids) - 1)])


def generate(
    context: "Context",
    vocabulary: Callable[[], Vocabulary],
    request: GenerateRequest,
    interrupt: Interrupt,
) -> Iterator[Piece | Finished | None]:
    """Answer ``request``; None after each step that gave no text.

    Args:
        vocabulary: Called only if the request forces bytes.

    Raises:
        Cancelled: ``interrupt`` was cancelled; the context stays usable.
        EngineError: The request cannot be answered.
    """
    check(request)
    request = heal(request, context.model)
    prefill_time, decode_time = Stopwatch(), Stopwatch()
    reused = yield from _prefill(context, request.tokens, interrupt, prefill_time)
    answer = Answer(request.stop_texts, request.forced, request.heal)
    ended = yield from _decode(context, vocabulary, request, interrupt, answer, reused, decode_time)
    reason, count = ended
    if shown := answer.rest():
        yield Piece(text=shown, reused_tokens=reused)
    yield Finished(
        text=answer.shown(),
        reason=reason,
        prompt_tokens=len(request.tokens),
        reused_tokens=reused,
        completion_tokens=count,
        queue_ms=0.0,
        prefill_ms=prefill_time.total_ms,
        decode_ms=decode_time.total_ms,
    )


def score(
    context: "Context", windows: Sequence[Sequence[int]], interrupt: Interrupt
) -> Iterator[list[NDArray[np.float64]] | None]:
    """``Context.score`` of each window, in the same batches, with a pause after each batch.

    The last item is the list of all losses.
    """
    scores = []
    for window in windows:
        context.check(window)
        context.clear()
        parts = [np.zeros(0)]
        for start, end in context.scored_steps(len(window)):
            batch = window[start:end]
            yield from _attempt(partial(context.extend, batch, interrupt, every=True), Stopwatch())
            parts.append(context.losses(window[start + 1 : end + 1]))
        scores.append(np.concatenate(parts))
    yield scores


def check(request: GenerateRequest) -> None:
    """Refuse what cannot be computed.

    Raises:
        EngineError: With the value that is wrong.
    """
    if request.max_tokens < 1:
        raise EngineError(f"max_tokens is {request.max_tokens!r}; ask for at least 1")
    if not (math.isfinite(request.temperature) and request.temperature >= 0):
        raise EngineError(f"temperature is {request.temperature!r}; 0 or more is needed")
    if not 0 < request.top_p <= 1:
        raise EngineError(f"top_p is {request.top_p!r}; more than 0 and at most 1 is needed")


class Spelling(Protocol):
    """Whatever knows what tokens stand for."""

    def token_bytes(self, token: int) -> bytes:
        """What ``token`` spells; control tokens spell nothing."""
        ...


def heal(request: GenerateRequest, model: Spelling) -> GenerateRequest:
    """Turn ``request.heal`` into forced bytes, where the last token is text that can be forced.

    A word that was begun, and a run of white space, are healed as a whole: a vocabulary cuts
    ``exampl`` and ``example`` up in ways that need not agree in any token.
    """
    if not request.heal or request.forced or len(request.tokens) < 2:
        return replace(request, heal=False)
    spelled, kept = model.token_bytes(request.tokens[-1]), len(request.tokens) - 1
    while kept > 1 and len(request.tokens) - kept < MOST_HEALED_TOKENS:
        earlier = model.token_bytes(request.tokens[kept - 1])
        if not _goes_on(earlier, spelled):
            break
        spelled, kept = earlier + spelled, kept - 1
    try:
        spelled.decode()
    except UnicodeDecodeError:
        # Half a character: the token stays in the prompt.
        return replace(request, heal=False)
    if not spelled:
        return replace(request, heal=False)
    return replace(request, tokens=request.tokens[:kept], forced=spelled)


def _goes_on(earlier: bytes, later: bytes) -> bool:
    """Whether a word, or a run of white space, goes from one spelling on to the other."""
    if later.isspace():
        return earlier.isspace()
    return earlier[-1:].isalpha() and later[:1].isalpha()


def _prefill(
    context: "Context", tokens: Sequence[int], interrupt: Interrupt, stopwatch: Stopwatch
) -> Generator[None, None, int]:
    reused = context.keep_prefix(tokens)
    step = min(PROMPT_STEP_TOKENS, context.batch_tokens)
    for start in range(reused, len(tokens), step):
        batch = tokens[start : start + step]
        yield from _attempt(partial(context.extend, batch, interrupt), stopwatch)
    return reused


def _decode(
    context: "Context",
    vocabulary: Callable[[], Vocabulary],
    request: GenerateRequest,
    interrupt: Interrupt,
    answer: Answer,
    reused: int,
    stopwatch: Stopwatch,
) -> Generator[Piece | None, None, tuple[Reason, int]]:
    """Add tokens to ``answer`` until it ends; why it did, and how many there were."""
    sampler = Sampler(request.temperature, request.top_p, request.seed)
    forced = request.forced
    for count in range(1, request.max_tokens + 1):
        with stopwatch:
            token = _choose(context, vocabulary, sampler, forced)
        if token in request.stop_ids or token in context.model.end_ids:
            return "end", count - 1
        data = context.model.token_bytes(token)
        forced = forced[len(data) :]
        if shown := answer.add(data):
            yield Piece(text=shown, reused_tokens=reused)
        if answer.stopped:
            return "text", count
        if count == request.max_tokens or context.length >= context.context_tokens:
            return "length", count
        yield from _attempt(partial(context.append, token, interrupt), stopwatch)
    raise AssertionError("max_tokens is at least 1")


def _choose(
    context: "Context", vocabulary: Callable[[], Vocabulary], sampler: Sampler, forced: bytes
) -> int:
    logits = context.logits()
    if np.isnan(logits.max()):
        raise EngineError(
            f"{context.model.path.name!r} computes no numbers (NaN); its file, or one of the "
            f"adapters {[str(adapter.path) for adapter in context.adapters]!r}, is damaged"
        )
    if not forced:
        return sampler.pick(logits)
    ids = vocabulary().allowed(forced)
    if not len(ids):
        raise EngineError(f"{forced!r} cannot be spelled in the tokens of this model; ask without")
    masked = np.full_like(logits, -np.inf)
    masked[ids] = logits[ids]
    return sampler.pick(masked)


def _attempt(step: Callable[[], None], stopwatch: Stopwatch) -> Iterator[None]:
    """Do ``step``, again after each pause; gives control back after each try."""
    while True:
        try:
            with stopwatch:
                step()
        except Paused:
            yield None
        else:
            yield None
            return
