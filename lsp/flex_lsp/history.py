"""The last requests and what became of them: the answer to "why this?" and "why nothing?"."""

import itertools
from collections import OrderedDict
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from flex_assist.complete.request import Completion

Surface = Literal["inline", "menu"]
Outcome = Literal["shown", "nothing", "off", "failed", "superseded"]
KEPT = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One request.

    Attributes:
        note: Why there is no completion, where none was asked of the model.
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

    def as_json(self) -> dict[str, Any]:
        """Plain data for the editor. Lines and characters count from 0."""
        plain = asdict(self)
        plain["id"] = plain.pop("identity")
        return plain


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
