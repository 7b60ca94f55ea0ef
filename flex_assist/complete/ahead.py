"""The next suggestion, computed while the current one is shown, as if that had been accepted.

It costs heat where it is not accepted, so it waits until somebody looks at what is shown, gives way
to everything else, computes at most a share of the time, and rests while too little of what it
began is used: what a key stopped half-way cost heat too.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Final

from flex_assist.errors import FlexAssistError

# Who types on within this does not look at the suggestion.
DELAY_S: Final = 0.15
# Time that may be saved up, in seconds of computing.
MOST_SAVED_S: Final = 3.0
# At least a share of the last answers that were begun ahead must have been used. While it was not,
# only one of several is computed, to notice when that changes.
WATCHED: Final = 16
LEAST_USED: Final = 0.2
TRIED_ONE_OF: Final = 6


class Ahead:
    """Runs at most one piece of work, for the answer that is shown now. For one event loop.

    Args:
        share: Most time of computing, as a share of the time that passes.
    """

    def __init__(self, share: float, delay_s: float = DELAY_S) -> None:
        self._share = share
        self._delay_s = delay_s
        self._task: asyncio.Task[None] | None = None
        self._key: Hashable = None
        self._saved_s = MOST_SAVED_S
        self._counted_s = time.monotonic()
        self._used: deque[bool] = deque(maxlen=WATCHED)
        self._skipped = 0

    def begin(
        self, key: Hashable, work: Callable[[], Coroutine[Any, Any, object]], *, guess: bool = True
    ) -> None:
        """Do ``work`` soon, instead of what runs for another key; a fault of it is nobody's.

        Args:
            guess: Nobody may ever look at it. False: more of what somebody looks at now.
        """
        if self._task is not None and not self._task.done() and key == self._key:
            return
        self.stop()
        if not guess or self._pays():
            self._key = key
            self._task = asyncio.get_running_loop().create_task(self._run(work, guess))

    def stop(self) -> None:
        """Give up what runs: somebody needs the engine, or the answer is not shown any more."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def used(self) -> None:
        """An answer that was computed ahead was wanted."""
        for index in range(len(self._used) - 1, -1, -1):
            if not self._used[index]:
                self._used[index] = True
                return

    def _pays(self) -> bool:
        if self._saved() <= 0:
            return False
        few = len(self._used) == WATCHED and sum(self._used) < LEAST_USED * WATCHED
        self._skipped = self._skipped + 1 if few else 0
        return not few or self._skipped % TRIED_ONE_OF == 0

    def _saved(self) -> float:
        now = time.monotonic()
        self._saved_s += self._share * (now - self._counted_s)
        self._saved_s = min(self._saved_s, MOST_SAVED_S)
        self._counted_s = now
        return self._saved_s

    async def _run(self, work: Callable[[], Coroutine[Any, Any, object]], guess: bool) -> None:
        await asyncio.sleep(self._delay_s)
        started = time.monotonic()
        if guess:
            self._used.append(False)
        try:
            await work()
        except FlexAssistError:
            # Whoever asks for it in earnest gets the error.
            return
        finally:
            if guess:
                self._saved_s -= time.monotonic() - started
