"""How the time of a run is shared out."""

import re
import time
from dataclasses import dataclass

from flex_assist.errors import ConfigError
from flex_trainer.time_limit import TimeLimit

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
LEAST_S = 20.0
MOST_S = 30 * 24 * 3600.0
# The gate aims at this share. On a machine that became slow the least that tells anything may take
# longer, up to the second one.
GATE_SHARE, MOST_GATE_SHARE = 0.18, 0.25
# Writing the files of an adapter takes about so long.
EXPORT_S = 12.0
# Of comparing who answers for which language, when all adapters are made.
ROUTING_SHARE = 0.05
# The least that tells anything of the candidates may take longer where what came before did: up to
# this share, and the whole command up to so much of its budget.
MOST_ROUTING_SHARE, MOST_OVERDRAWN = 0.12, 1.15
# The plan aims a little below the budget: machines are never quite as fast as a probe says.
AIM = 0.96


def parse_seconds(text: str) -> float:
    """Seconds of ``90s``, ``8m``, ``1h`` or a plain number of seconds.

    Raises:
        ConfigError: It is none of these, or too short to do anything.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smh]?)\s*", text)
    if match is None:
        raise ConfigError(f"budget {text!r} is not a time; write e.g. 90s, 8m or 1h")
    seconds = float(match[1]) * UNITS[match[2] or "s"]
    if seconds > MOST_S:
        raise ConfigError(f"budget {text[:40]!r} is too long; give at most {MOST_S / 3600:.0f}h")
    if seconds < LEAST_S:
        raise ConfigError(f"budget {text!r} is too short; give at least {LEAST_S:.0f}s")
    return seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The time of one run.

    Attributes:
        started_s: ``time.monotonic()`` when the command began.
    """

    seconds: float
    started_s: float

    def spent_s(self) -> float:
        """Seconds since the command began."""
        return time.monotonic() - self.started_s

    def left_s(self) -> float:
        """Seconds that the plan may still use."""
        return self.started_s + AIM * self.seconds - time.monotonic()

    def gate_s(self, adapters: int) -> float:
        """Seconds for the gate of one adapter of so many."""
        return GATE_SHARE * self.seconds / max(1, adapters)

    def gate_limit(self, adapters: int) -> TimeLimit:
        """When the gate of one adapter of so many, which begins now, is to end."""
        now_s = time.monotonic()
        return TimeLimit(
            until_s=now_s + min(self.gate_s(adapters), max(0.0, self.left_s())),
            last_s=now_s + MOST_GATE_SHARE * self.seconds / max(1, adapters),
        )

    def routing_s(self) -> float:
        """Seconds for comparing who answers for which language."""
        return ROUTING_SHARE * self.seconds

    def routing_limit(self, languages: int, since_s: float) -> TimeLimit:
        """When the comparison for one language of so many, which begins now, is to end.

        Args:
            languages: Those that are not compared yet.
            since_s: ``time.monotonic()`` when comparing began.
        """
        now_s = time.monotonic()
        ends = ((ROUTING_SHARE, AIM), (MOST_ROUTING_SHARE, MOST_OVERDRAWN))
        until_s, last_s = (
            min(since_s + own * self.seconds, self.started_s + whole * self.seconds)
            for own, whole in ends
        )
        return TimeLimit(
            until_s=now_s + max(0.0, until_s - now_s) / languages,
            last_s=now_s + max(0.0, last_s - now_s) / languages,
        )

    def training_s(self, adapters: int) -> float:
        """Seconds for training all adapters, from now on."""
        after = adapters * (self.gate_s(adapters) + EXPORT_S) + self.routing_s()
        return max(5.0, self.left_s() - after)
