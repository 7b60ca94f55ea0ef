"""When to stop asking a server for a while, so that not every key waits for one that is down."""

import time
from typing import Final

FIRST_PAUSE_S: Final = 2.0
LONGEST_PAUSE_S: Final = 60.0


class Patience:
    """Pauses after failures, each twice as long as the one before.

    Requests that are withdrawn while nothing has come add up: who types withdraws each of them
    before any limit is reached, and would never learn that the server hangs.

    Args:
        limit_s: Seconds without a word, over several requests, that count as a failure.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._failures = 0
        self._until_s = 0.0
        self._unanswered_s = 0.0
        self.reason = ""

    @property
    def pausing(self) -> bool:
        """Whether the server is to be left alone now."""
        return time.monotonic() < self._until_s

    def failed(self, reason: str) -> None:
        """The server failed, for this reason."""
        pause_s = min(FIRST_PAUSE_S * 2**self._failures, LONGEST_PAUSE_S)
        self._until_s = time.monotonic() + pause_s
        self._failures = min(self._failures + 1, 16)
        self._unanswered_s = 0.0
        # The first one stays: servers put numbers of requests into their words, and people are to
        # be told once.
        self.reason = self.reason or reason

    def answered(self) -> None:
        """Text came."""
        self._failures, self._unanswered_s, self.reason = 0, 0.0, ""

    def withdrawn(self, waited_s: float, host: str) -> None:
        """A request was withdrawn after so long without a word."""
        self._unanswered_s += waited_s
        if self._unanswered_s >= self._limit_s:
            self.failed(f"{host} gives no text within {self._limit_s:g} s")
