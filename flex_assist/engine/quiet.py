"""Work for the time in which nobody asks for anything."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

AFTER_S: Final = 5.0
_LOOK_EVERY_S: Final = 0.05


class Quiet:
    """Puts work off until nothing was asked for a while.

    Args:
        after_s: So long nothing must have been asked.
        busy: Whether something is being done now.
    """

    def __init__(self, after_s: float, busy: Callable[[], bool]) -> None:
        self._after_s = after_s
        self._busy = busy
        self._asked_s = time.monotonic()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> int:
        """How many pieces of work are put off."""
        return len(self._tasks)

    def asked(self) -> None:
        """Somebody asks for something now."""
        self._asked_s = time.monotonic()

    def then(self, work: Callable[[], None]) -> None:
        """Do this when it is quiet; never, where the event loop ends before that."""
        task = asyncio.get_running_loop().create_task(self._wait(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """Put off for ever."""
        for task in self._tasks:
            task.cancel()

    async def _wait(self, work: Callable[[], None]) -> None:
        while (left_s := self._asked_s + self._after_s - time.monotonic()) > 0 or self._busy():
            await asyncio.sleep(max(left_s, _LOOK_EVERY_S))
        work()
