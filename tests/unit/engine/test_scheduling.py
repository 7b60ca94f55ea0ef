"""Who goes first, and that every job is answered once."""

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flex_assist.engine.interrupt import Interrupt
from flex_assist.engine.protocol import Priority
from flex_assist.engine.scheduling import END, PAUSES_A_STEP, Job, Worker
from flex_assist.errors import Cancelled, EngineError

WAIT_S = 5.0


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker(lambda: None)
    yield made
    made.stop()


class Log:
    """What was delivered, in order."""

    def __init__(self) -> None:
        self.lines: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()

    def job(
        self, name: str, priority: Priority, steps: Callable[[Interrupt], Iterator[Any]]
    ) -> Job:
        return Job(
            priority=priority, steps=steps, deliver=lambda item: self.lines.put((name, item))
        )

    def next(self) -> tuple[str, Any]:
        return self.lines.get(timeout=WAIT_S)


def count_to(number: int) -> Callable[[Interrupt], Iterator[int]]:
    return lambda interrupt: iter(range(number))


def held(started: threading.Event, go: threading.Event) -> Callable[[Interrupt], Iterator[int]]:
    def steps(interrupt: Interrupt) -> Iterator[int]:
        for number in range(3):
            started.set()
            assert go.wait(WAIT_S)
            yield number

    return steps


def test_a_more_urgent_job_goes_between_the_steps_of_another(worker: Worker) -> None:
    log, started, go = Log(), threading.Event(), threading.Event()
    chat = log.job("chat", Priority.CHAT, held(started, go))
    worker.submit(chat)
    assert started.wait(WAIT_S)
    worker.submit(log.job("background", Priority.BACKGROUND, count_to(1)))
    worker.submit(log.job("completion", Priority.COMPLETION, count_to(2)))
    assert chat.interrupt.is_set()
    go.set()
    names = [log.next()[0] for _ in range(9)]
    assert names == ["chat"] + ["completion"] * 3 + ["chat"] * 3 + ["background"] * 2


def test_equals_are_done_in_their_order(worker: Worker) -> None:
    log, started, go = Log(), threading.Event(), threading.Event()
    worker.submit(log.job("first", Priority.CHAT, held(started, go)))
    worker.submit(log.job("second", Priority.CHAT, count_to(1)))
    go.set()
    assert [log.next()[0] for _ in range(6)] == ["first"] * 4 + ["second"] * 2


def test_a_cancelled_job_ends_with_cancelled(worker: Worker) -> None:
    log, started, go = Log(), threading.Event(), threading.Event()
    job = log.job("chat", Priority.CHAT, held(started, go))
    worker.submit(job)
    assert started.wait(WAIT_S)
    job.interrupt.cancel()
    go.set()
    assert log.next() == ("chat", 0)
    assert isinstance(log.next()[1], Cancelled)
    assert worker.counts()["chat"] == 0


def test_a_fault_in_one_job_leaves_the_worker_alive(worker: Worker) -> None:
    log = Log()
    worker.submit(log.job("bad", Priority.CHAT, lambda interrupt: (1 // 0 for _ in "x")))
    error = log.next()[1]
    assert isinstance(error, EngineError)
    assert "ZeroDivisionError" in str(error)
    worker.submit(log.job("good", Priority.CHAT, count_to(0)))
    assert log.next() == ("good", END)


def test_a_job_that_is_always_overtaken_is_let_through(worker: Worker) -> None:
    log, started, go = Log(), threading.Event(), threading.Event()
    chat = log.job("chat", Priority.CHAT, held(started, go))
    worker.submit(chat)
    assert started.wait(WAIT_S)
    for _ in range(PAUSES_A_STEP):
        worker.submit(log.job("completion", Priority.COMPLETION, count_to(0)))
        assert chat.interrupt.is_set()
        chat.interrupt.resume()
    worker.submit(log.job("completion", Priority.COMPLETION, count_to(0)))
    assert not chat.interrupt.is_set()
    go.set()


def test_the_steps_of_an_ended_job_are_closed_in_the_worker(worker: Worker) -> None:
    log, closed_in = Log(), []

    def steps(interrupt: Interrupt) -> Iterator[int]:
        try:
            yield 1
            raise Cancelled("x")
        finally:
            closed_in.append(threading.current_thread().name)

    worker.submit(log.job("job", Priority.CHAT, steps))
    assert [type(log.next()[1]) for _ in range(2)] == [int, Cancelled]
    assert closed_in == ["engine"]


def test_a_stopped_worker_answers_what_is_left_and_takes_nothing_more() -> None:
    ended = threading.Event()
    worker, log = Worker(ended.set), Log()
    started, go = threading.Event(), threading.Event()
    worker.submit(log.job("one", Priority.CHAT, held(started, go)))
    worker.submit(log.job("two", Priority.CHAT, count_to(1)))
    assert started.wait(WAIT_S)
    go.set()
    worker.stop()
    assert ended.is_set()
    items = []
    while not log.lines.empty():
        items.append(log.lines.get())
    assert {name for name, item in items if isinstance(item, Cancelled)} == {"one", "two"}
    with pytest.raises(EngineError, match="closed"):
        worker.submit(log.job("late", Priority.CHAT, count_to(1)))


def test_a_cancel_is_not_undone_by_going_on() -> None:
    interrupt = Interrupt()
    interrupt.pause()
    assert interrupt.is_set()
    interrupt.resume()
    assert not interrupt.is_set()
    interrupt.cancel()
    interrupt.resume()
    assert interrupt.is_set()
