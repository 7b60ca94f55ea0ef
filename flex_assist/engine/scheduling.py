"""One thread that works on many jobs, the most urgent first, a step at a time."""

import heapq
import itertools
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from flex_assist.engine.interrupt import Interrupt
from flex_assist.engine.protocol import Priority
from flex_assist.errors import Cancelled, EngineError, FlexAssistError

_log = logging.getLogger(__name__)

# After this many pauses within one step the step is let through: a job must get on, even while
# more urgent ones never stop coming.
PAUSES_A_STEP: Final = 3


class End:
    """Delivered last when a job went well."""


END: Final = End()


@dataclass(slots=True, eq=False, kw_only=True)
class Job:
    """Something to compute.

    Attributes:
        steps: Called in the worker's thread; the iterator gives control back after each step. Its
            items, except None, are delivered.
        deliver: Called in the worker's thread with each item, at last with ``END`` or the error.
    """

    priority: Priority
    steps: Callable[[Interrupt], Iterator[Any]]
    deliver: Callable[[Any], None]
    interrupt: Interrupt = field(default_factory=Interrupt)
    iterator: Iterator[Any] | None = None
    pauses: int = 0


class Worker:
    """Works on the most urgent job; of equals, on the one that came first, until it ends.

    Args:
        on_exit: Called in the worker's thread when it ends.
    """

    def __init__(self, on_exit: Callable[[], None]) -> None:
        self._on_exit = on_exit
        self._changed = threading.Condition()
        self._queue: list[tuple[int, int, Job]] = []
        self._numbers = itertools.count()
        self._running: Job | None = None
        self._stopping = False
        self._thread: threading.Thread | None = None

    def submit(self, job: Job) -> None:
        """Queue ``job``; a less urgent one that runs is paused.

        Raises:
            EngineError: The worker was stopped.
        """
        with self._changed:
            if self._stopping:
                raise EngineError("the engine is closed; open another")
            heapq.heappush(self._queue, (job.priority, next(self._numbers), job))
            running = self._running
            overtaken = running is not None and job.priority < running.priority
            if running is not None and overtaken and running.pauses < PAUSES_A_STEP:
                running.pauses += 1
                running.interrupt.pause()
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
                self._thread.start()
            self._changed.notify()

    def stop(self) -> None:
        """Cancel all jobs and wait for the thread to end. Not from the worker's own thread."""
        with self._changed:
            self._stopping = True
            for _, _, job in self._queue:
                job.interrupt.cancel()
            self._changed.notify()
            thread = self._thread
        if thread is not None:
            thread.join()

    def counts(self) -> dict[str, int]:
        """Unfinished jobs by priority, the running one included."""
        with self._changed:
            unfinished = [job.priority for _, _, job in self._queue]
        return {priority.name.lower(): unfinished.count(priority) for priority in Priority}

    def _work(self) -> None:
        while (job := self._next()) is not None:
            self._step(job)
        self._on_exit()

    def _next(self) -> Job | None:
        with self._changed:
            self._running = None
            while not self._queue:
                if self._stopping:
                    return None
                self._changed.wait()
            # The job stays in the queue until it has ended: its step may be cut short.
            job = self._queue[0][2]
            job.interrupt.resume()
            self._running = job
            return job

    def _step(self, job: Job) -> None:
        try:
            if job.interrupt.cancelled:
                raise Cancelled("the request was cancelled")
            if job.iterator is None:
                job.iterator = job.steps(job.interrupt)
            item = next(job.iterator, END)
        except FlexAssistError as error:
            item = error
        except Exception as error:
            # The thread serves everybody: a fault in one job must not end it.
            _log.exception("a job failed")
            item = EngineError(f"internal error of the engine: {error!r}; please report it")
        if not job.interrupt.is_set():
            job.pauses = 0
        if item is END or isinstance(item, Exception):
            self._remove(job)
        if item is not None:
            job.deliver(item)

    def _remove(self, job: Job) -> None:
        if job.iterator is not None and hasattr(job.iterator, "close"):
            job.iterator.close()
        with self._changed:
            self._queue = [entry for entry in self._queue if entry[2] is not job]
            heapq.heapify(self._queue)
