"""A cursor, and who is asked: all that is known before the model is."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from flex_assist.adapters.router import Route
from flex_assist.complete.cache import Place
from flex_assist.complete.request import CompletionRequest
from flex_assist.complete.surroundings import Surroundings, several_lines
from flex_assist.complete.trim import finished_early
from flex_assist.engine.protocol import Weights
from flex_assist.language import Language

# Lines above the cursor that show how far a block is indented, and what it is where none does.
INDENTED_LINES = 60
INDENTATION = "    "
# A shorter beginning of a line is not worth looking at.
LEAST_CHARACTERS = 8
BEGUN_WORD = re.compile(r"\w*\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Everything here is in LF line ends.

    Attributes:
        request: What it was made of.
        path: As the prompt says it.
        stops: Texts that an answer cannot go beyond, wherever the cursor is.
        crlf: Whether the document has Windows' line ends.
        place: Where its answer is kept; None where the files that answer cannot be looked at.
        started: When the request came, by ``time.perf_counter``.
        lines: Whether the answer may have more than one line, where that is known already: of one
            that is gone on with. None: as the cursor says.
    """

    request: CompletionRequest
    around: Surroundings
    language: Language | None
    route: Route
    weights: Weights
    path: str | None
    stops: tuple[str, ...]
    crlf: bool
    place: Place | None
    started: float
    lines: bool | None = None

    @property
    def several(self) -> bool:
        """Whether the answer may have more than one line."""
        if self.lines is not None:
            return self.lines
        knows_end = self.route.fim is not None
        return "\n" not in self.stops and several_lines(self.around, knows_end=knows_end)

    @property
    def stop_texts(self) -> tuple[str, ...]:
        """Texts that this answer ends before."""
        return self.stops if self.several else tuple(dict.fromkeys((*self.stops, "\n")))

    def is_finished(self, text: str) -> bool:
        """Whether nothing that may come behind ``text`` would be shown."""
        return finished_early(text, self.around, self.several)

    def is_due(self, text: str) -> bool:
        """Whether ``text`` must do for now."""
        due_ms = self.request.first_answer_ms
        return due_ms is not None and bool(self.beginning(text)) and self._passed_ms() >= due_ms

    def is_enough(self, text: str, written_ms: float, begun: str = "") -> bool:
        """Whether ``text`` will do for now, if nobody waits for more of it: for the sake of heat.

        Args:
            written_ms: Since the first token of what is new.
            begun: What of ``text`` was there before.
        """
        due_ms = self.request.first_answer_ms
        if due_ms is None or written_ms < due_ms:
            return False
        return len(self.beginning(text)) > len(begun)

    def is_enough_ahead(self, text: str, written_ms: float) -> bool:
        """``is_enough`` of an answer that may never be asked for: its first line is, too."""
        due_ms, (line, end, _) = self.request.first_answer_ms, text.partition("\n")
        if due_ms is not None and end and line.strip():
            return True
        return self.is_enough(text, written_ms)

    def _passed_ms(self) -> float:
        return (time.perf_counter() - self.started) * 1000

    def beginning(self, text: str) -> str:
        """What of ``text`` can be shown before the rest is there: whole lines, or whole words."""
        lines = text.rpartition("\n")[0]
        if self.several and lines.strip():
            return lines
        words = BEGUN_WORD.sub("", text)
        return words if len(words.strip()) >= LEAST_CHARACTERS and "\n" not in words else ""

    def behind(self, text: str) -> "Question":
        """The question that is asked once ``text`` is accepted."""
        around = replace(self.around, before=self.around.before + text)
        return replace(self, around=around)

    def next_line(self) -> "Question | None":
        """The question behind a line break, indented as editors do it; None inside a line."""
        if self.around.line_after.strip() or "\n" in self.stops:
            return None
        line = self.around.line_before
        space = line[: len(line) - len(line.lstrip(" \t"))]
        if not line.strip():
            return None
        unit = _unit(self.around.before) if self.around.opens_block else ""
        return self.behind("\n" + space + unit)


class Clock:
    """Milliseconds by stage, and since ``started`` (of ``time.perf_counter``)."""

    def __init__(self, started: float) -> None:
        self._started = started
        self._stages: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Around one stage."""
        started = time.perf_counter()
        yield
        self._stages[name] = (time.perf_counter() - started) * 1000

    def add(self, **stages: float) -> None:
        """Stages that somebody else has measured."""
        self._stages.update(stages)

    def result(self) -> dict[str, float]:
        """All stages, and ``total``: up to now."""
        total = (time.perf_counter() - self._started) * 1000
        order = ("context", "queue", "prefill", "decode", "trim")
        known = {name: round(self._stages.get(name, 0.0), 2) for name in order}
        return {**known, "total": round(total, 2)}


def _unit(text: str) -> str:
    """One level of indentation, as the lines above have it."""
    lines = text.split("\n")[-INDENTED_LINES:]
    spaces = [line[: len(line) - len(line.lstrip(" \t"))] for line in lines if line.strip()]
    if any("\t" in space for space in spaces):
        return "\t"
    return min((space for space in spaces if space), key=len, default=INDENTATION)
