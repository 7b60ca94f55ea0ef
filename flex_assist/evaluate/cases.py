"""Places of held-out files to complete."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from flex_assist.evaluate.spans import SpanSource
from flex_assist.language import BY_NAME
from flex_assist.repository.documents import Document

# So much text stands before a cursor, where the file has it.
LEAST_BEFORE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One place of a held-out file to fill in: characters ``start`` to ``end``."""

    document: Document
    start: int
    end: int

    @property
    def before(self) -> str:
        """Text up to the cursor."""
        return self.document.text[: self.start]

    @property
    def after(self) -> str:
        """Text after the span."""
        return self.document.text[self.end :]

    @property
    def middle(self) -> str:
        """What stood there."""
        return self.document.text[self.start : self.end]


def draw_cases(documents: Sequence[Document], count: int, seed: int) -> list[Case]:
    """Places to fill in, from each file in turn; the same for the same seed."""
    rng = random.Random(f"{seed}:cases")
    sources = [SpanSource(document.text, BY_NAME[document.language]) for document in documents]
    cases: list[Case] = []
    for number in range(count * 4):
        if len(cases) >= count or not documents:
            break
        document = documents[number % len(documents)]
        low = min(LEAST_BEFORE, len(document.text) // 2)
        span = sources[number % len(documents)].draw(rng, low=low)
        if span is not None:
            cases.append(Case(document=document, start=span.start, end=span.end))
    return cases
