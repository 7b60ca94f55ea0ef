"""A model call that outlives the request for which it was made.

Who types on gives up the request before; but the answer under way is still the right one while what
is typed agrees with it. So it goes on for a moment, and the next request may join it.
"""

import asyncio
from collections.abc import Awaitable, Callable

from flex_assist.complete.question import Question
from flex_assist.complete.request import Completion
from flex_assist.complete.writing import Writing

LOOK_EVERY_S = 0.005


class Flight:
    """One call. For one event loop.

    Args:
        work: Computes the answer; given this object, so that it can show its ``writing``.
        grace_s: So long it goes on though nobody waits for it.
    """

    def __init__(
        self,
        question: Question,
        work: Callable[["Flight"], Awaitable[Completion]],
        grace_s: float,
    ) -> None:
        self.writing: Writing | None = None
        self._question = question
        self._grace_s = grace_s
        self._waiting = 0
        self._timer: asyncio.TimerHandle | None = None
        self._task = asyncio.ensure_future(work(self))
        self._task.add_done_callback(_read_exception)

    async def join(self) -> Completion:
        """The answer to its own question. Cancelling this leaves the call for whoever comes next.

        Raises:
            EngineError, ModelError: As the work.
        """
        self._enter()
        try:
            return await asyncio.shield(self._task)
        finally:
            self._leave()

    async def leads_to(self, question: Question) -> bool:
        """Wait until it is over, if its answer may be one to ``question`` too.

        Returns:
            Whether it is; False as soon as what was typed since is something else.
        """
        typed = self._typed(question)
        if typed is None:
            return False
        self._enter()
        try:
            while not self._task.done():
                text = self.writing.text if self.writing is not None else ""
                if not (text.startswith(typed) or typed.startswith(text)):
                    return False
                await asyncio.wait([self._task], timeout=LOOK_EVERY_S)
        finally:
            self._leave()
        return not self._task.cancelled() and self._task.exception() is None

    def give_up(self) -> None:
        """Stop it, unless somebody waits for it."""
        if not self._waiting:
            self._task.cancel()

    def _typed(self, question: Question) -> str | None:
        """What was typed since its own question; None if it is about something else."""
        own, around = self._question.around, question.around
        same = own.after == around.after and self._question.place == question.place
        if self._task.done() or not same or not around.before.startswith(own.before):
            return None
        return around.before[len(own.before) :]

    def _enter(self) -> None:
        self._waiting += 1
        if self._timer is not None:
            self._timer.cancel()

    def _leave(self) -> None:
        self._waiting -= 1
        if not self._waiting and not self._task.done():
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._grace_s, self.give_up)


def _read_exception(task: "asyncio.Future[Completion]") -> None:
    if not task.cancelled():
        task.exception()
