"""The processes that watching starts: a look, and a run of adapt; both at low priority."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import psutil

from flex_assist.processes import own_command
from flex_trainer.cli import EXIT_INTERRUPTED, EXIT_NOTHING_PROMOTED

NICENESS = 10
LINES_KEPT = 20
MOST_LINE_CHARACTERS = 1 << 20
EXITS = {
    0: "promoted",
    EXIT_NOTHING_PROMOTED: "refused",
    EXIT_INTERRUPTED: "interrupted",
    -signal.SIGINT: "interrupted",
}
Ending = Literal["promoted", "refused", "interrupted", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a run of adapt ended.

    Attributes:
        adapters: Each language's verdict and, if it has one, its new version.
        message: What it said last.
    """

    ending: Ending
    adapters: dict[str, str]
    message: str


class Child:
    """A command of this program, with its output read as it comes.

    Its process group is its own: a Ctrl-C in the terminal reaches it through ``interrupt`` only, so
    that it is asked once to stop, and not twice.

    Args:
        module: Of ours, with its arguments.
        told: Given each line of its standard error, in a thread.
    """

    def __init__(self, module: str, arguments: list[str], told: Callable[[str], None]) -> None:
        self._process = subprocess.Popen(
            own_command(module, *arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=Path(sys.executable).anchor,
            env={**os.environ, "PYTHONSAFEPATH": "1"},
            encoding="utf-8",
            errors="replace",
            **_own_group(),
        )
        _make_modest(self._process.pid)
        self.output: list[str] = []
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._readers = [
            _reader(self._process.stdout, self.output.append),
            _reader(self._process.stderr, told),
        ]

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def poll(self) -> int | None:
        """The exit code, when it has ended and all it said has been read."""
        if self._process.poll() is None or any(reader.is_alive() for reader in self._readers):
            return None
        for stream in (self._process.stdout, self._process.stderr):
            assert stream is not None
            stream.close()
        return self._process.returncode

    def interrupt(self) -> None:
        """Ask it to stop, as Ctrl-C does."""
        with contextlib.suppress(ProcessLookupError):
            if sys.platform == "win32":
                self._process.send_signal(signal.CTRL_BREAK_EVENT)
            else:
                self._process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait()


class Adapting:
    """A run of ``flex-assist adapt``.

    Args:
        resume: Go on with the run that was interrupted, whatever it was asked for.
        heard: Given each of its events, in a thread.
    """

    def __init__(
        self, root: Path, *, resume: bool, heard: Callable[[dict[str, Any]], None]
    ) -> None:
        self._heard = heard
        self._last: deque[str] = deque(maxlen=LINES_KEPT)
        how = "--resume" if resume else "--from-active"
        arguments = ["adapt", os.fspath(root), how, "--progress", "json", "--json"]
        self.child = Child("flex_assist", arguments, self._take)

    def poll(self) -> Outcome | None:
        """How it ended; None while it goes on."""
        code = self.child.poll()
        if code is None:
            return None
        ending: Any = EXITS.get(code, "failed")
        message = next((line for line in reversed(self._last) if line.strip()), f"exit code {code}")
        return Outcome(
            ending=ending,
            adapters=_adapters("".join(self.child.output)),
            message=message.removeprefix("flex-assist: "),
        )

    def _take(self, line: str) -> None:
        try:
            event = json.loads(line) if line.startswith("{") else None
        except ValueError:
            event = None
        if isinstance(event, dict):
            self._heard(event)
        else:
            self._last.append(line.rstrip())


def _adapters(output: str) -> dict[str, str]:
    """Language to verdict, of what ``adapt --json`` prints; nothing where it printed none."""
    try:
        languages = json.loads(output)["languages"]
        return {
            str(name): str(found.get("adapter") or found.get("verdict"))
            for name, found in languages.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _reader(stream: IO[str], take: Callable[[str], object]) -> threading.Thread:
    def read() -> None:
        while line := stream.readline(MOST_LINE_CHARACTERS):
            take(line)

    thread = threading.Thread(target=read, name="watch-child", daemon=True)
    thread.start()
    return thread


def _own_group() -> dict[str, Any]:
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def _make_modest(pid: int) -> None:
    """Give a process low priority. Its threads, which come later, inherit it."""
    # It may have ended; and whoever may not lower a priority goes on without.
    with contextlib.suppress(psutil.Error, OSError):
        low = psutil.BELOW_NORMAL_PRIORITY_CLASS if sys.platform == "win32" else NICENESS
        psutil.Process(pid).nice(low)
