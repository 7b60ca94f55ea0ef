"""What a run tells while it goes on."""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from flex_assist.cli.output import printable, say

PHASES = ("mine", "load", "plan", "train", "export", "gate", "promote", "route", "done")
LINE_EVERY_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One moment of a run.

    Attributes:
        phase: One of ``PHASES``.
        language: The adapter that is worked on, if any.
        loss: Nats a token, smoothed.
        eta_s: Seconds to the end of the phase.
        note: Something that people should read: the plan, or what went wrong and was mended.
    """

    phase: str
    language: str | None = None
    step: int | None = None
    steps: int | None = None
    loss: float | None = None
    tokens_per_s: float | None = None
    eta_s: float | None = None
    note: str | None = None


Listener = Callable[[Event], None]


def silent(event: Event) -> None:
    """Tell nobody."""


def notes_only(event: Event) -> None:
    """What people should read, to standard error."""
    if event.note:
        say(event.note)


def json_lines(event: Event) -> None:
    """One JSON object a line, to standard error."""
    rounded = {
        key: round(value, 4) if isinstance(value, float) else value
        for key, value in asdict(event).items()
    }
    print(json.dumps(rounded), file=sys.stderr, flush=True)


class Lines:
    """Where there is no terminal: notes, and now and then a line on how far a phase has come."""

    def __init__(self, every_s: float = LINE_EVERY_S) -> None:
        self._every_s = every_s
        self._said_s = time.monotonic()

    def show(self, event: Event) -> None:
        """Say it, if it is time."""
        notes_only(event)
        now_s = time.monotonic()
        if event.steps and now_s - self._said_s >= self._every_s:
            self._said_s = now_s
            name = f"{event.phase} {event.language or ''}".strip()
            say(f"{name}: {event.step or 0} of {event.steps}")


class Display:
    """A live display in the terminal: a line a phase, with a bar where there are steps."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
        )

        self._progress: Progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description:<22}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[detail]}"),
            console=Console(stderr=True),
        )
        self._tasks: dict[tuple[str, str | None], int] = {}

    def __enter__(self) -> Listener:
        self._progress.start()
        return self.show

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def show(self, event: Event) -> None:
        """Draw the event."""
        if event.note:
            self._progress.console.print(printable(event.note), markup=False, highlight=False)
        key = (event.phase, event.language)
        if key not in self._tasks:
            self._finish_others()
            name = f"{event.phase} {event.language or ''}".strip()
            self._tasks[key] = self._progress.add_task(name, total=event.steps, detail="")
        self._progress.update(
            self._tasks[key],  # type: ignore[arg-type]
            total=event.steps,
            completed=event.step or 0,
            detail=_detail(event),
        )

    def _finish_others(self) -> None:
        for task in self._progress.tasks:
            if not task.finished:
                total = task.total or 1
                self._progress.update(task.id, total=total, completed=total)


def _detail(event: Event) -> str:
    parts = []
    if event.loss is not None:
        parts.append(f"loss {event.loss:.3f}")
    if event.tokens_per_s is not None:
        parts.append(f"{event.tokens_per_s:,.0f} tokens/s")
    if event.eta_s is not None:
        parts.append(f"{event.eta_s:.0f} s left")
    return ", ".join(parts)
