"""Held-out cases that the report shows: chosen by a rule, never by hand.

A case counts as closer, further or equal by the edit similarity of what the adapted model wrote,
against that of the base. The shown ones are as many of each as all cases have in proportion, the
first in the order in which they were drawn: the seed fixed it before either model was asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from flex_assist.evaluate.cases import Case
from flex_assist.evaluate.metrics import edit_similarity, exact_match

MOST_SHOWN = 12
# Of the text before the cursor.
MOST_LINES, MOST_CHARACTERS = 8, 600
# Differences below this are not told from rounding.
SAME = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """What one model wrote into a case."""

    text: str
    similarity: float
    exact: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One case.

    Attributes:
        path: As mining has it: bytes that are not UTF-8 are lone surrogates.
        line: Of the cursor, from 1.
        before: The end of the text before the cursor.
    """

    path: str
    line: int
    before: str
    wanted: str
    base: Side
    adapted: Side

    @property
    def outcome(self) -> str:
        """``closer``, ``further`` or ``equal``."""
        change = self.adapted.similarity - self.base.similarity
        return "equal" if abs(change) < SAME else "closer" if change > 0 else "further"


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """The shown cases, and how many there are of each outcome among all.

    Attributes:
        all_counts: By outcome, of all cases.
    """

    shown: tuple[Example, ...]
    all_counts: dict[str, int]


NO_EXAMPLES = Examples(shown=(), all_counts={})


def choose(
    cases: Sequence[Case], base: Sequence[str], adapted: Sequence[str], most: int = MOST_SHOWN
) -> Examples:
    """Cases for people to look at.

    Args:
        base: What the base wrote into each case.
        adapted: What the adapted model wrote.
    """
    found = [
        _example(case, one, other) for case, one, other in zip(cases, base, adapted, strict=True)
    ]
    of_outcome: dict[str, list[int]] = {"closer": [], "further": [], "equal": []}
    for at, example in enumerate(found):
        of_outcome[example.outcome].append(at)
    counts = {outcome: len(places) for outcome, places in of_outcome.items()}
    shares = apportioned(counts, most)
    chosen = sorted(at for name, places in of_outcome.items() for at in places[: shares[name]])
    return Examples(shown=tuple(found[at] for at in chosen), all_counts=counts)


def apportioned(counts: dict[str, int], most: int) -> dict[str, int]:
    """At most ``most`` in all, in proportion to ``counts``, by largest remainders."""
    total = sum(counts.values())
    if total <= most:
        return dict(counts)
    shares = {name: count * most // total for name, count in counts.items()}
    by_remainder = sorted(counts, key=lambda name: -(counts[name] * most % total))
    for name in by_remainder[: most - sum(shares.values())]:
        shares[name] += 1
    return shares


def _example(case: Case, base: str, adapted: str) -> Example:
    before = "\n".join(case.before.split("\n")[-MOST_LINES:])
    return Example(
        path=case.document.path,
        line=case.before.count("\n") + 1,
        before=before[-MOST_CHARACTERS:],
        wanted=case.middle,
        base=_side(base, case.middle),
        adapted=_side(adapted, case.middle),
    )


def _side(text: str, wanted: str) -> Side:
    return Side(
        text=text,
        similarity=edit_similarity(text, wanted),
        exact=exact_match(text, wanted),
    )
