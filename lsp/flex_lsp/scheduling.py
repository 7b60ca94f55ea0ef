"""Newest wins: of the requests for one key only the last is worth an answer.

Some editors never withdraw a request while somebody types. Work that a newer request makes
pointless must stop at once: it costs heat and delays the answer that is wanted.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

Answer = TypeVar("Answer")


class Superseded(Exception):
    """A newer request took this one's place. An outcome like ``CancelledError``, no failure."""


class Newest:
    """Runs at most one piece of work for each key. Keys are ``(document, surface)``."""

    def __init__(self) -> None:
        self._running: dict[tuple[str, str], asyncio.Task[object]] = {}

    async def run(
        self, key: tuple[str, str], delay_s: float, work: Callable[[], Awaitable[Answer]]
    ) -> Answer:
        """Do ``work`` after ``delay_s``, instead of whatever still runs for ``key``.

        Raises:
            Superseded: A newer call with the same key, or ``supersede``, took over.
        """
        self.stop(key)
        task = asyncio.create_task(_delayed(delay_s, work))
        self._running[key] = task
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            # The editor withdrew the request; nobody else reads what the task may still raise.
            task.cancel()
            task.add_done_callback(_read_exception)
            raise
        finally:
            if self._running.get(key) is task:
                del self._running[key]
        if task.cancelled():
            raise Superseded
        return task.result()

    def supersede(self, document: str) -> None:
        """The document has changed: what still runs for it answers a question of the past."""
        for key in [key for key in self._running if key[0] == document]:
            self.stop(key)

    def stop(self, key: tuple[str, str]) -> None:
        """Give up what runs for ``key``."""
        task = self._running.pop(key, None)
        if task is not None:
            task.cancel()


async def _delayed(delay_s: float, work: Callable[[], Awaitable[Answer]]) -> Answer:
    if delay_s > 0:
        await asyncio.sleep(delay_s)
    return await work()


def _read_exception(task: asyncio.Task[object]) -> None:
    if not task.cancelled():
        task.exception()
