"""Counts what a side asks of its model, and the processor's time that it takes."""

import contextlib
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import psutil


@dataclass(slots=True)
class Calls:
    """Model calls of one side.

    Attributes:
        times_ms: Of each call that was answered, from the question to the whole answer.
        started: Calls, also those that were given up.
        ahead: Of these, for what is not yet asked: a suggestion after the one that is shown.
        cancelled: Calls that were given up because more was typed; they have no time.
        cache_hits: Keys answered without a model call.
        prompt_tokens: Prompt tokens computed, not reused.
        completion_tokens: Tokens made.
        prefill_ms, decode_ms: Of the calls that came to their end, as the engine tells it.
    """

    times_ms: list[float] = field(default_factory=list)
    started: int = 0
    ahead: int = 0
    cancelled: int = 0
    cache_hits: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prefill_ms: list[float] = field(default_factory=list)
    decode_ms: list[float] = field(default_factory=list)

    def answered(self, started_s: float) -> None:
        """A call that began then is over."""
        self.times_ms.append((time.perf_counter() - started_s) * 1000)

    def record(self) -> dict[str, Any]:
        """For the result."""
        return {
            "p50_ms": percentile(self.times_ms, 50),
            "p95_ms": percentile(self.times_ms, 95),
            "p99_ms": percentile(self.times_ms, 99),
            "prefill_p50_ms": percentile(self.prefill_ms, 50),
            "decode_p50_ms": percentile(self.decode_ms, 50),
            "model_calls": self.started,
            "calls_ahead": self.ahead,
            "calls_cancelled": self.cancelled,
            "cache_hits": self.cache_hits,
            "prompt_tokens_computed": self.prompt_tokens,
            "completion_tokens_computed": self.completion_tokens,
            "tokens_computed": self.prompt_tokens + self.completion_tokens,
        }


def percentile(values: Sequence[float], percent: int) -> float | None:
    """Interpolated; None where there are no values."""
    if not values:
        return None
    if len(values) == 1:
        return round(values[0], 2)
    return round(statistics.quantiles(values, n=100, method="inclusive")[percent - 1], 2)


def cpu_s(*processes: psutil.Process) -> float:
    """Seconds of processor time of these processes and all that run below them, so far."""
    total = 0.0
    seen: set[int] = set()
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            for one in (process, *process.children(recursive=True)):
                if one.pid not in seen:
                    seen.add(one.pid)
                    total += _spent_s(one)
    return total


def _spent_s(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)
