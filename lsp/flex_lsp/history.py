"""The last requests and what became of them: the answer to "why this?" and "why nothing?".

They are kept in memory and nowhere else.
"""

import itertools
from collections import OrderedDict
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from flex_assist.complete import why
from flex_assist.complete.request import Completion, CompletionRequest

Surface = Literal["inline", "menu"]
Outcome = Literal["shown", "nothing", "off", "failed", "superseded"]
OUTCOMES: dict[Outcome, str] = {
    "shown": "a suggestion was shown",
    "nothing": "nothing was shown: there was nothing good to say",
    "off": "nothing was shown: completions are off here",
    "failed": "nothing was shown: it failed",
    "superseded": "nothing was shown: the text changed, or a newer request took over",
}
KEPT = 200
# Of the texts that the requests had, together. The oldest go first; their records stay.
KEPT_CHARACTERS = 8 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One request.

    Attributes:
        note: Why there is no completion, where none was asked of the model.
        asked_at: Seconds since 1970.
        request: What was asked, as long as it is kept; for asking it again.
        repeats: The record whose request this one asks again.
    """

    identity: str
    uri: str
    line: int
    character: int
    surface: Surface
    outcome: Outcome
    completion: Completion | None = None
    note: str = ""
    accepted: bool = False
    asked_at: float = 0.0
    request: CompletionRequest | None = None
    root: Path | None = None
    repeats: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain data for the editor, and ``text`` for people. Lines and characters count from 0."""
        plain = asdict(replace(self, request=None, root=None))
        del plain["request"], plain["root"]
        plain["id"] = plain.pop("identity")
        plain["can_repeat"] = self.request is not None
        plain["text"] = "\n".join(self.lines())
        return plain

    def lines(self) -> list[str]:
        """For people: what became of the request, and why."""
        first = f"{self.uri}:{self.line + 1}:{self.character + 1}: {OUTCOMES[self.outcome]}"
        if self.outcome == "shown" and self.accepted:
            first += ", and accepted"
        if self.repeats is not None:
            first += f" (asked again: {self.repeats})"
        told = [self.note] if self.note else []
        return [first, *told, *(why.lines(self.completion) if self.completion else ())]


class History:
    """Keeps the newest records, by identity."""

    def __init__(self) -> None:
        self._records: OrderedDict[str, Record] = OrderedDict()
        self._numbers = itertools.count(1)

    def new_identity(self) -> str:
        """A name for a request that no other in this process has."""
        return f"c{next(self._numbers)}"

    def add(self, record: Record) -> None:
        """Keep a record; the oldest goes when there are too many."""
        self._records[record.identity] = record
        while len(self._records) > KEPT:
            self._records.popitem(last=False)
        self._forget_old_texts()

    def all(self) -> list[Record]:
        """All that is kept, the oldest first."""
        return list(self._records.values())

    def _forget_old_texts(self) -> None:
        left = KEPT_CHARACTERS
        for record in reversed(list(self._records.values())):
            if record.request is None:
                continue
            left -= len(record.request.before) + len(record.request.after)
            if left < 0:
                self._records[record.identity] = replace(record, request=None)

    def accept(self, identity: str) -> Record | None:
        """Note that the text of a request was taken; None if it is not known any more."""
        record = self._records.get(identity)
        if record is None:
            return None
        self._records[identity] = accepted = replace(record, accepted=True)
        return accepted

    def last(self, identity: str | None = None) -> Record | None:
        """The record with this identity; without one, the newest that was not superseded."""
        if identity is not None:
            return self._records.get(identity)
        answered = (r for r in reversed(self._records.values()) if r.outcome != "superseded")
        return next(answered, None)
