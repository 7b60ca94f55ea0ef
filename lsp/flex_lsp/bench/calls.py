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
        waited_ms: Of these, the ones that somebody waited for.
        started: Calls, also those that were given up.
        ahead: Of these, for what is not yet asked: a suggestion after the one that is shown.
        cancelled: Calls that were given up because more was typed; they have no time.
        cache_hits: Keys answered without a model call.
        prompt_tokens: Prompt tokens computed, not reused.
        completion_tokens: Tokens made.
        prefill_ms, decode_ms: Of the calls that came to their end, as the engine tells it.
    """

    times_ms: list[float] = field(default_factory=list)
    waited_ms: list[float] = field(default_factory=list)
    started: int = 0
    ahead: int = 0
    cancelled: int = 0
    cache_hits: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prefill_ms: list[float] = field(default_factory=list)
    decode_ms: list[float] = field(default_factory=list)

    def answered(self, started_s: float, *, ahead: bool = False) -> None:
        """A call that began then is over."""
        passed_ms = (time.perf_counter() - started_s) * 1000
        self.times_ms.append(passed_ms)
        if not ahead:
            self.waited_ms.append(passed_ms)

    def record(self) -> dict[str, Any]:
        """For the result."""
        return {
            "p50_ms": percentile(self.times_ms, 50),
            "p95_ms": percentile(self.times_ms, 95),
            "p99_ms": percentile(self.times_ms, 99),
            "waited_p50_ms": percentile(self.waited_ms, 50),
            "waited_p95_ms": percentile(self.waited_ms, 95),
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


class Meter:
    """The processor's time from now on: of a side's processes, and of everything else.

    The second tells whether the machine was quiet; where it was not, times mean little.
    """

    def __init__(self, *processes: psutil.Process) -> None:
        self._processes = processes
        self._own_s, self._all_s = cpu_s(*processes), _busy_s()

    def record(self) -> dict[str, float]:
        """Seconds of both, for the result."""
        own_s = cpu_s(*self._processes) - self._own_s
        others_s = max(0.0, _busy_s() - self._all_s - own_s)
        return {"cpu_s": round(own_s, 3), "others_cpu_s": round(others_s, 3)}


def _busy_s() -> float:
    times = psutil.cpu_times()
    # Windows has no "nice".
    return float(times.user + times.system + getattr(times, "nice", 0.0))


def _spent_s(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)
