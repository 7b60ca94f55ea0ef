"""What watching tells: lines for people, or one JSON object a line."""

import json
import sys
import threading
from typing import Any

from flex_assist.cli.output import printable, say

WIDTH = 100


class Teller:
    """Tells to one place.

    Args:
        as_json: One event a line to standard output; otherwise text to standard error.
    """

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._live = not as_json and sys.stderr.isatty()
        self._shown = ""
        self._reason = ""
        # A run's events come from another thread.
        self._lock = threading.Lock()

    def tell(self, event: str, text: str, **facts: Any) -> None:
        """Something that has happened."""
        with self._lock:
            if self._as_json:
                print(json.dumps({"event": event, "text": text, **facts}), flush=True)
            else:
                self._clear()
                say(text)

    def waits(self, reason: str) -> None:
        """Why nothing is done; told once until the reason is another."""
        if reason != self._reason:
            self._reason = reason
            self.tell("waiting", f"waiting: {reason}")

    def works(self) -> None:
        """Something is done: a reason to wait is new again afterwards."""
        self._reason = ""

    def progress(self, event: dict[str, Any]) -> None:
        """An event of the run: one line that is written over, or a line for each phase."""
        if event.get("note") and not self._as_json:
            self.tell("note", str(event["note"]))
        with self._lock:
            if self._as_json:
                print(json.dumps({"event": "progress", **event}), flush=True)
            elif self._live:
                self._write_over(described(event))
            elif (phase := f"{event.get('phase')} {event.get('language') or ''}") != self._shown:
                self._shown = phase
                say(phase.strip())

    def _write_over(self, text: str) -> None:
        cut = printable(text.replace("\n", " "))[:WIDTH]
        print(f"\r{cut:<{len(self._shown)}}", end="", file=sys.stderr, flush=True)
        self._shown = cut

    def _clear(self) -> None:
        if self._live and self._shown:
            print(f"\r{'':<{len(self._shown)}}\r", end="", file=sys.stderr)
            self._shown = ""


def described(event: dict[str, Any]) -> str:
    """An event of a run on one line, for people."""
    parts = [" ".join(str(event[key]) for key in ("phase", "language") if event.get(key))]
    if event.get("step") is not None and event.get("steps"):
        parts.append(f"{event['step']}/{event['steps']}")
    if isinstance(event.get("loss"), int | float):
        parts.append(f"loss {event['loss']:.3f}")
    if isinstance(event.get("eta_s"), int | float):
        parts.append(f"{event['eta_s']:.0f} s left")
    return "adapting: " + ", ".join(parts)
