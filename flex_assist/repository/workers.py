"""Processes that answer questions side by side: one answer to each, in any order.

They are other Python processes that are started anew, so it does not matter which threads or
devices this one has open, and they are told and answer in msgpack over their pipes. One that ends
while it works on a question is replaced, and the question put once more, then given up; one that
takes too long is ended. They end by themselves when nobody listens any more, however this process
ended, and do not hear a Ctrl-C that is meant for it.
"""

import contextlib
import os
import queue
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgpack  # type: ignore[import-untyped]

import flex_assist
from flex_assist.processes import own_command

MAX_WORKERS: Final = 8
QUESTIONS_AT_ONCE: Final = 32
# A file of the greatest size takes a second or two.
TIME_LIMIT_S: Final = 120.0
_CHECK_S: Final = 0.5
_END_S: Final = 5.0
_LENGTH_BYTES: Final = 4
# Each process computes with one thread.
_ENVIRONMENT: Final = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


class NoWorkersError(Exception):
    """No process can be started; the questions without an answer are left to the caller."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Instead of an answer: the process ended or had to be ended."""

    reason: str


def cores() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def ask(
    module: str, request: Mapping[str, Any], questions: Sequence[str], time_limit_s: float
) -> Generator[tuple[int, Any], None, None]:
    """Put each question to a process; number of the question and answer, as they come.

    Close the iterator (``contextlib.closing``) if it is left early.

    Args:
        module: Run as ``python -m``; its main function calls ``serve``.
        request: Told to each process before any question.
        time_limit_s: For one question.

    Raises:
        NoWorkersError: Questions are left that nobody answers.
    """
    pool = _Pool(module, request, questions)
    try:
        yield from pool.answers(time_limit_s)
    finally:
        pool.close()


def serve() -> "Server":
    """This process's side: the request, the questions, and where answers go."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    # Whatever else writes there would spoil the answers.
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
    return Server(sys.stdin.buffer, answers)


class Server:
    """What a process that answers questions reads and writes."""

    def __init__(self, questions: BinaryIO, answers: BinaryIO) -> None:
        self._questions = questions
        self._answers = answers
        self.request: dict[str, Any] = _read(questions) or {}

    def questions(self) -> Iterator[str]:
        """All questions, until nobody asks any more. Each wants its answer before the next."""
        _write(self._answers, _code())
        while (several := _read(self._questions)) is not None:
            yield from several

    def answer(self, answer: Any) -> None:
        """Answer the last question."""
        _write(self._answers, answer)


class _Pool:
    """The processes, a thread for each that speaks with it, and what they have answered."""

    def __init__(self, module: str, request: Mapping[str, Any], questions: Sequence[str]) -> None:
        self._command = module, dict(request)
        self._questions = questions
        starts = range(0, len(questions), QUESTIONS_AT_ONCE)
        self._pending = deque(
            deque(range(start, min(start + QUESTIONS_AT_ONCE, len(questions)))) for start in starts
        )
        self._answers: queue.SimpleQueue[tuple[int, Any] | None] = queue.SimpleQueue()
        # Held while a process is started, so that none is started after the end.
        self._lock = threading.Lock()
        self._closed = False
        count = min(cores(), MAX_WORKERS, len(starts))
        self._processes: list[_Process | None] = [None] * count
        self._threads = [
            threading.Thread(target=self._work, args=(place,), daemon=True)
            for place in range(count)
        ]

    def answers(self, time_limit_s: float) -> Iterator[tuple[int, Any]]:
        working = len(self._threads)
        left = len(self._questions)
        for thread in self._threads:
            thread.start()
        checked_s = time.monotonic()
        while working:
            if time.monotonic() - checked_s > _CHECK_S:
                checked_s = time.monotonic()
                self._end_late_ones(time_limit_s)
            try:
                found = self._answers.get(timeout=_CHECK_S)
            except queue.Empty:
                continue
            if found is None:
                working -= 1
                continue
            left -= 1
            yield found
        if left:
            raise NoWorkersError

    def close(self) -> None:
        with self._lock:
            self._closed = True
            for process in self._processes:
                if process is not None:
                    process.kill()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _end_late_ones(self, time_limit_s: float) -> None:
        for process in self._processes:
            if process is not None and process.busy_s() > time_limit_s:
                process.late = True
                process.kill()

    def _work(self, place: int) -> None:
        """Take questions until there are none left, or no process to put them to."""
        try:
            while not self._closed:
                try:
                    numbers = self._pending.popleft()
                except IndexError:
                    return
                if not self._put(numbers, place):
                    self._pending.append(numbers)
                    return
        finally:
            process = self._processes[place]
            if process is not None:
                process.end()
            self._answers.put(None)

    def _put(self, numbers: deque[int], place: int) -> bool:
        """Have questions answered; whether that could be done."""
        again = None
        while numbers and not self._closed:
            process = self._processes[place] or self._start(place)
            if process is None:
                return False
            for answer in process.ask([self._questions[number] for number in numbers]):
                self._answers.put((numbers.popleft(), answer))
            if numbers:
                process.end()
                self._processes[place] = None
                if process.late or again == numbers[0]:
                    reason = "takes too long" if process.late else "ends the process"
                    self._answers.put((numbers.popleft(), Failure(reason=reason)))
                else:
                    again = numbers[0]
        return True

    def _start(self, place: int) -> "_Process | None":
        module, request = self._command
        with self._lock:
            process = None if self._closed else _started(module)
            self._processes[place] = process
        if process is None or process.begin(request):
            return process
        process.kill()
        return None


class _Process:
    """A process that answers."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._questions: Any = process.stdin
        self._answers: Any = process.stdout
        self._since: float | None = time.monotonic()
        self.late = False

    def begin(self, request: Mapping[str, Any]) -> bool:
        """Tell it what it is to do; whether it understands, being of the same code."""
        try:
            _write(self._questions, request)
            understood = bool(_read(self._answers) == _code())
        except OSError:
            return False
        self._since = None
        return understood

    def ask(self, questions: Sequence[str]) -> Iterator[Any]:
        """The answers to these in their order, fewer if it ends."""
        self._since = time.monotonic()
        try:
            _write(self._questions, questions)
            for _ in questions:
                answer = _read(self._answers)
                if answer is None:
                    return
                self._since = time.monotonic()
                yield answer
        except OSError:
            return
        self._since = None

    def busy_s(self) -> float:
        """For how long it has worked on its question."""
        since = self._since
        return 0.0 if since is None else time.monotonic() - since

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> None:
        """Let it go, and wait for it."""
        with contextlib.suppress(OSError):
            self._questions.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._answers.close()


def _started(module: str) -> _Process | None:
    options: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        options = {
            "creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
        }
    try:
        process = subprocess.Popen(
            own_command(module),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=Path(sys.executable).anchor,
            env={**os.environ, **_ENVIRONMENT},
            **options,
        )
    except OSError:
        return None
    return _Process(process)


def _code() -> dict[str, str]:
    """Names the code that runs here."""
    return {"code": os.path.dirname(os.path.abspath(flex_assist.__file__))}


def _write(stream: BinaryIO, message: Any) -> None:
    body: bytes = msgpack.packb(message, unicode_errors="surrogateescape")
    stream.write(len(body).to_bytes(_LENGTH_BYTES, "big") + body)
    stream.flush()


def _read(stream: BinaryIO) -> Any:
    """The next message; None at the end."""
    head = stream.read(_LENGTH_BYTES)
    length = int.from_bytes(head, "big")
    body = stream.read(length) if len(head) == _LENGTH_BYTES else b""
    if not body or len(body) < length:
        return None
    return msgpack.unpackb(body, unicode_errors="surrogateescape")
