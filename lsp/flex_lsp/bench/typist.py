"""Somebody who types a trace, in real time, and takes over what is right.

The rule, the same for both sides: whenever the trace pauses for ``LOOK_MS`` or more, the
person looks at the screen at the end of the pause. What has stood there for ``READ_MS`` and is, as
a whole or with its first line, just what the trace goes on to type, is accepted if it saves
``WORTH`` characters; else the next key is pressed. Accepted keys take no time.
"""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Final, Protocol

from flex_lsp.bench.trace import Trace, TracedEdit, TracedFile

LOOK_MS: Final = 250
READ_MS: Final = 150
WORTH: Final = 4
# After accepting, before the next key.
AFTER_MS: Final = 400


@dataclass(slots=True)
class Screen:
    """What is shown at the cursor, and when it appeared.

    Attributes:
        times_ms: Of each key after which something was shown before the next: how long it took.
    """

    text: str = ""
    times_ms: list[float] = field(default_factory=list)
    _key_s: float = 0.0
    _shown_s: float = 0.0
    _waiting: bool = False

    def key(self) -> None:
        """A key was pressed: nothing is shown for the new text yet."""
        self.text, self._key_s, self._waiting = "", time.perf_counter(), True

    def show(self, text: str) -> None:
        """A side shows ``text``; empty hides it."""
        if text == self.text:
            return
        self.text, self._shown_s = text, time.perf_counter()
        if text and self._waiting:
            self._waiting = False
            self.times_ms.append((self._shown_s - self._key_s) * 1000)

    def read(self) -> str:
        """What somebody has had the time to read."""
        seen_ms = (time.perf_counter() - self._shown_s) * 1000
        return self.text if self.text and seen_ms >= READ_MS else ""


@dataclass(slots=True)
class Buffer:
    """A file as it is being edited."""

    file: TracedFile
    text: str
    cursor: int = 0
    version: int = 0

    def replace(self, delete: int, text: str) -> None:
        """Delete after the cursor, and insert before it."""
        self.text = self.text[: self.cursor] + text + self.text[self.cursor + delete :]
        self.cursor += len(text)
        self.version += 1


class Side(Protocol):
    """An assistant in an editor."""

    screen: Screen

    async def open(self, buffer: Buffer) -> None:
        """A file is opened, before anything is timed."""
        ...

    def entered(self, buffer: Buffer) -> None:
        """The person goes to this file."""
        ...

    def changed(self, buffer: Buffer, deleted: int, inserted: str) -> None:
        """Text was replaced just before the cursor. The screen is empty; asks as an editor does."""
        ...


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What a person had of it.

    Attributes:
        keys: Keys that were pressed.
        accepted_characters: Characters that need not be typed.
        seconds: From the first key to the last.
    """

    keys: int = 0
    characters: int = 0
    accepted: int = 0
    accepted_characters: int = 0
    seconds: float = 0.0


async def replay(trace: Trace, side: Side, buffers: list[Buffer]) -> Outcome:
    """Type the whole trace."""
    outcome, started_s, before = Outcome(characters=trace.characters), time.perf_counter(), None
    for edit in trace.edits:
        buffer = buffers[edit.file]
        if edit.file != before:
            side.entered(buffer)
            before = edit.file
        buffer.cursor = edit.offset
        side.screen.key()
        await asyncio.sleep(edit.pause_ms / 1000)
        if edit.delete:
            _press(side, buffer, edit.delete, "")
            await asyncio.sleep(edit.pause_ms / 1000)
        await _type(edit, side, buffer, outcome)
    outcome.seconds = time.perf_counter() - started_s
    return outcome


async def _type(edit: TracedEdit, side: Side, buffer: Buffer, outcome: Outcome) -> None:
    text, keys, typed, at = edit.text, edit.keys, 0, 0
    while at < len(keys):
        rest, key = text[typed:], keys[at].text
        # What is left of a key of which a part was accepted.
        key = rest[: len(key) - (typed - sum(len(one.text) for one in keys[:at]))]
        _press(side, buffer, 0, key)
        outcome.keys += 1
        typed, pause_ms, at = typed + len(key), keys[at].pause_ms, at + 1
        await asyncio.sleep(pause_ms / 1000)
        if pause_ms < LOOK_MS:
            continue
        while taken := right(side.screen.read(), text[typed:]):
            _press(side, buffer, 0, taken)
            outcome.accepted += 1
            outcome.accepted_characters += len(taken)
            typed += len(taken)
            await asyncio.sleep(AFTER_MS / 1000)
        while at < len(keys) and sum(len(one.text) for one in keys[: at + 1]) <= typed:
            at += 1


def right(shown: str, rest: str) -> str:
    """What of ``shown`` is worth taking over where ``rest`` is what is to be typed."""
    line, broken, _ = shown.partition("\n")
    # A first line alone is right only where the wanted line ends there too.
    first = line if broken and (rest == line or rest.startswith(line + "\n")) else ""
    found = shown if rest.startswith(shown) else first
    return found if len(found.strip()) >= WORTH else ""


def _press(side: Side, buffer: Buffer, delete: int, text: str) -> None:
    buffer.replace(delete, text)
    side.screen.key()
    side.changed(buffer, delete, text)
