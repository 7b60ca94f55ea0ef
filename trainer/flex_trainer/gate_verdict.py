"""Promoted or not, by what was measured, and one sentence for people.

An adapter is promoted if all of these hold:

1. In plain held-out text the whole 95 % interval of its bits per byte less the base's lies below 0.
2. With retrieval it fills in no worse than the base with retrieval: the interval of its loss less
   the base's does not lie wholly above 0. Of places too few for an interval the loss itself rises
   by at most ``FEW_PLACES_BOUND``.
3. It forgets little: its loss on generic code and on chat is at most ``gate.CODE_BOUND`` and
   ``gate.CHAT_BOUND`` nats a token above the base's.
4. It is no worse than the version that is active: the interval of its bits per byte less that
   one's does not lie wholly above 0. Where they cannot be told apart the newer one has seen newer
   code; where they could not be compared the active one stays.

What could not be measured for clauses 2 and 3 objects to nothing and is named in the sentence. A
figure that is not a number satisfies no clause.
"""

from dataclasses import dataclass

from flex_trainer.gate_windows import LEAST_WINDOWS
from flex_trainer.measurement import Measurement, Pair

PROMOTED, KEPT_BASE, KEPT_ACTIVE = "promoted", "kept-base", "kept-active"
# Nats a token, of places too few for an interval.
FEW_PLACES_BOUND = 0.1
_TEXTS = {"code": "generic code", "chat": "chat"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What becomes of an adapter.

    Attributes:
        name: ``promoted``, ``kept-base`` or ``kept-active``.
        clause: What decided: ``gain``, ``windows``, ``infilling``, ``code``, ``chat``, ``active``.
        reason: One sentence for people.
    """

    name: str
    clause: str
    reason: str

    @property
    def promoted(self) -> bool:
        """Whether the adapter is to answer from now on."""
        return self.name == PROMOTED


def judge(measured: Measurement, standing: str | None = None) -> Verdict:
    """Decide.

    Args:
        standing: The version that is active, if one is: it stays where the new one is refused.
    """
    objection = _objection(measured, standing)
    if objection is None:
        return Verdict(
            name=PROMOTED, clause="gain", reason=f"promoted: {_gain(measured)}{_untold(measured)}"
        )
    clause, figure = objection
    stays = f"version {standing} stays" if standing else "the base stays"
    name = KEPT_ACTIVE if standing else KEPT_BASE
    return Verdict(name=name, clause=clause, reason=f"{stays}{figure}")


def _objection(measured: Measurement, standing: str | None) -> tuple[str, str] | None:
    """The first clause that does not hold, and the figure that says so."""
    if measured.windows < LEAST_WINDOWS:
        few = f"({measured.windows} windows of held-out text are too few to tell)"
        return "windows", f" {few}: {_gain(measured)}"
    if not measured.ci95[1] < 0:
        return "gain", f": {_gain(measured)}"
    if infilling := _infilling(measured):
        return "infilling", f": with retrieval the infilling loss rose, {infilling}"
    for key, found in measured.drift.items():
        if not found.within:
            pair = Pair(base=found.base, adapted=found.adapted)
            change = _change(pair, found.ci95, "nats a token")
            figure = f"the loss on {_TEXTS[key]} rose by more than {found.bound:.2f}, {change}"
            return key, f": too much was forgotten: {figure}"
    rival = measured.active
    if rival is not None and not rival.ci95[0] <= 0:
        pair = Pair(base=rival.active, adapted=rival.adapted)
        change = _change(pair, rival.ci95, "bits per byte")
        return "active", f": it is better than the new adapter, {change}"
    if standing and (rival is None or rival.version != standing):
        why = measured.uncompared or "it became active while the adapter was measured"
        return "active", f": the new adapter could not be compared with it, {why}"
    return None


def _infilling(measured: Measurement) -> str | None:
    """By how much the loss of places rose, if it did."""
    pair, ends = measured.fim_nats, measured.fim_nats_ci95
    if ends is not None:
        return None if ends[0] <= 0 else _change(pair, ends, "nats a token")
    if not measured.spans or pair.adapted - pair.base <= FEW_PLACES_BOUND:
        return None
    return f"{pair.base:.3f} -> {pair.adapted:.3f} nats a token at {measured.spans} places"


def _untold(measured: Measurement) -> str:
    """What the promoted one was not asked, for the sentence."""
    notes = []
    if not measured.spans:
        notes.append("infilling")
    elif measured.fim_nats_ci95 is None:
        notes.append(f"an interval of the infilling loss ({measured.spans} places are too few)")
    notes += [f"the loss on {text}" for key, text in _TEXTS.items() if key not in measured.drift]
    return f"; not measured: {', '.join(notes)}" if notes else ""


def _gain(measured: Measurement) -> str:
    pair, (low, high) = measured.bits_per_byte, measured.ci95
    change = pair.adapted / pair.base - 1 if pair.base else 0.0
    return (
        f"bits per byte {pair.base:.3f} -> {pair.adapted:.3f} ({change:+.1%}; 95 % interval of the "
        f"difference in bits per byte [{low:+.3f}, {high:+.3f}])"
    )


def _change(pair: Pair, ends: tuple[float, float], unit: str) -> str:
    return (
        f"{pair.base:.3f} -> {pair.adapted:.3f} {unit} "
        f"(95 % interval of the difference [{ends[0]:+.3f}, {ends[1]:+.3f}])"
    )
