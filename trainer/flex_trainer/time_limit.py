"""When measuring is to end. Loads nothing: the command line reads a budget with it."""

import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeLimit:
    """When to stop measuring, by ``time.monotonic()``.

    Attributes:
        until_s: The time to stop at, once the least has been measured.
        last_s: The time to stop at even then; one unit is always measured.
    """

    until_s: float
    last_s: float

    def over(self, done: int, least: int) -> bool:
        """Whether to stop after so many units."""
        now_s = time.monotonic()
        return done >= 1 and now_s > (self.until_s if done >= least else self.last_s)

    def sooner(self, until_s: float) -> "TimeLimit":
        """The same for a part that is to end earlier."""
        return TimeLimit(until_s=min(until_s, self.until_s), last_s=self.last_s)
