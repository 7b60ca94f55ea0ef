"""Each clause of the gate flips the verdict by itself, and is what the sentence names."""

import math
from dataclasses import replace

import pytest

from flex_trainer import gate_verdict
from flex_trainer.gate_drift import Drift
from flex_trainer.gate_windows import LEAST_WINDOWS
from flex_trainer.measurement import Measurement, Pair, Rival

SAME = Pair(base=1.0, adapted=1.0)
VERSION = "20260101T000000Z-0000"


def drift(change: float) -> Drift:
    return Drift(base=1.0, adapted=1.0 + change, ci95=(0.0, 0.3), texts=8, tokens=900, bound=0.2)


def rival(low: float, high: float) -> Rival:
    return Rival(
        version=VERSION, active=0.6, adapted=0.6 + (low + high) / 2, ci95=(low, high), windows=9,
        files=5,
    )  # fmt: skip


GOOD = Measurement(
    bits_per_byte=Pair(base=1.0, adapted=0.5), ci95=(-0.6, -0.4),
    fim_nats=Pair(base=1.2, adapted=1.1), fim_nats_ci95=(-0.2, 0.01), exact_match=SAME,
    edit_similarity=SAME, windows=LEAST_WINDOWS, window_tokens=1, spans=9,
    drift={"code": drift(0.2), "chat": drift(-0.1)}, active=rival(-0.1, 0.02),
)  # fmt: skip


def test_all_clauses_hold():
    found = gate_verdict.judge(GOOD, VERSION)
    assert (found.name, found.promoted) == ("promoted", True)
    assert found.reason == (
        "promoted: bits per byte 1.000 -> 0.500 (-50.0%; 95 % interval of the difference in bits "
        "per byte [-0.600, -0.400])"
    )


@pytest.mark.parametrize(
    ("clause", "change", "figure"),
    [
        ("windows", {"windows": LEAST_WINDOWS - 1}, "too few to tell"),
        ("gain", {"ci95": (-0.6, 0.0)}, "1.000 -> 0.500"),
        ("infilling", {"fim_nats_ci95": (0.001, 0.2)}, "1.200 -> 1.100 nats a token"),
        (
            "infilling",
            {"fim_nats": Pair(base=1.0, adapted=9.0), "fim_nats_ci95": None, "spans": 4},
            "1.000 -> 9.000 nats a token at 4 places",
        ),
        ("infilling", {"fim_nats_ci95": (math.nan, math.nan)}, "nan"),
        ("gain", {"ci95": (math.nan, math.nan)}, "nan"),
        ("active", {"active": rival(math.nan, math.nan)}, "nan"),
        ("code", {"drift": {"code": drift(0.21)}}, "generic code rose by more than 0.20"),
        ("chat", {"drift": {"code": drift(0.0), "chat": drift(0.3)}}, "1.000 -> 1.300"),
        ("active", {"active": rival(0.001, 0.1)}, "0.600 -> 0.650 bits per byte"),
    ],
)  # fmt: skip
def test_each_clause_refuses(clause, change, figure):
    bad = replace(GOOD, **change)
    found = gate_verdict.judge(bad)
    assert (found.name, found.clause, found.promoted) == ("kept-base", clause, False)
    assert found.reason.startswith("the base stays")
    assert figure in found.reason
    kept = gate_verdict.judge(bad, VERSION)
    assert kept.name == "kept-active"
    assert kept.reason.startswith(f"version {VERSION} stays")


def test_what_could_not_be_compared_with_the_active_version_does_not_replace_it():
    why = "only 2 of 8 windows are of files that it was not trained on"
    bare = replace(GOOD, active=None, uncompared=why)
    found = gate_verdict.judge(bare, VERSION)
    assert (found.name, found.clause) == ("kept-active", "active")
    assert found.reason == (
        f"version {VERSION} stays: the new adapter could not be compared with it, {why}"
    )
    other = gate_verdict.judge(GOOD, "20260102T000000Z-0000")
    assert (other.name, other.clause) == ("kept-active", "active")
    # Without one, or one of another base or damaged: the caller names none.
    assert gate_verdict.judge(bare).promoted


@pytest.mark.parametrize(
    ("change", "untold"),
    [
        (
            {"fim_nats_ci95": None, "spans": 4},
            "an interval of the infilling loss (4 places are too few)",
        ),
        ({"fim_nats_ci95": None, "spans": 0}, "infilling"),
        ({"drift": {}}, "the loss on generic code, the loss on chat"),
        ({"drift": {"code": drift(0.0)}}, "the loss on chat"),
        ({"active": None}, ""),
        ({"ci95": (-1e-3, -1e-6)}, ""),
    ],
)
def test_what_could_not_be_told_refuses_nothing_and_is_named(change, untold):
    found = gate_verdict.judge(replace(GOOD, **change))
    assert found.promoted
    assert found.reason.partition("; not measured: ")[2] == untold
