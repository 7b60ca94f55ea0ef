"""Rates, pairs, overheads, the sentence, and the picture."""

import itertools
import math
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest

from flex_assist.errors import DataError
from flex_trainer.bench import overhead, trial
from flex_trainer.bench.curves import axis, draw
from flex_trainer.bench.optimizers import (
    at_the_end,
    best_rate,
    differences,
    mean_seconds,
    mean_step,
    rate_of,
    worth_trying,
)
from flex_trainer.bench.trial import Trial
from flex_trainer.bench.verdict import Difference, paired, sentence
from flex_trainer.corpus import Sample
from flex_trainer.loop import StepReport
from flex_trainer.recipe import LEARNING_RATE, Recipe

TRIAL = Trial(
    optimizer="sophia", lr=1e-3, seed=1, steps=4, seconds=2.0, held_out_bits_per_byte=0.9,
    curve=((0.0, 1.2), (1.0, 1.0), (2.0, 0.9)),
)  # fmt: skip
TIMES = {"sophia": 60.21, "adamw": 59.9}


def report(seconds: float, estimated: bool = False) -> StepReport:
    return StepReport(
        step=1, steps=9, loss=1.0, tokens=10, seconds=seconds,
        unclipped_share=0.3 if estimated else None,
    )  # fmt: skip


def test_rates_lie_around_the_recipes() -> None:
    assert rate_of("adamw", 0, 1) == LEARNING_RATE["adamw"]
    low, centre, high, beyond = (rate_of("sophia", at, 3) for at in range(4))
    assert centre == LEARNING_RATE["sophia"]
    assert high == pytest.approx(4 * low)
    assert beyond == pytest.approx(2 * high)


def tuned(**bits: tuple[float, ...]) -> list[Trial]:
    """Runs of each optimizer at the rates 1, 2, 4, .."""
    return [
        replace(TRIAL, optimizer=name, lr=2.0**at, held_out_bits_per_byte=one)
        for name, found in bits.items()
        for at, one in enumerate(found)
    ]


def test_both_try_more_rates_while_the_highest_is_the_best_of_one() -> None:
    falling, settled = (0.9, 0.8, 0.7), (0.9, 0.7, 0.8)
    assert worth_trying([], 0, 3)
    assert not worth_trying(tuned(sophia=settled, adamw=settled), 3, 3)
    assert worth_trying(tuned(sophia=settled, adamw=falling), 3, 3)
    assert not worth_trying(tuned(sophia=(*settled, 0.9), adamw=(*falling, 0.8)), 4, 3)
    assert worth_trying(tuned(sophia=settled, adamw=(*falling, 0.6)), 4, 3)
    assert not worth_trying(tuned(sophia=settled, adamw=(*falling, 0.6, 0.5)), 5, 3)


def test_a_rate_at_which_it_blew_up_lies_beyond_the_best() -> None:
    ended, beyond = (0.9, 0.7), math.inf
    tuning = tuned(sophia=(*ended, beyond), adamw=(0.9, 0.7, 0.8))
    assert best_rate(tuning, "sophia") == 2.0
    assert not at_the_end(tuning, "sophia", 2.0)
    assert not worth_trying(tuning, 3, 3)
    with pytest.raises(DataError, match="sophia blew up"):
        best_rate(tuned(sophia=(beyond, math.nan)), "sophia")


def test_a_single_rate_stays_one() -> None:
    assert worth_trying([], 0, 1)
    assert not worth_trying(tuned(sophia=(0.9,), adamw=(0.9,)), 1, 1)


def test_the_best_rate_is_of_the_run_that_ended_lowest() -> None:
    tuning = [
        replace(TRIAL, lr=lr, held_out_bits_per_byte=bits)
        for lr, bits in ((1.0, 0.9), (2.0, 0.8), (4.0, 0.85))
    ]
    assert best_rate(tuning, "sophia") == 2.0
    assert not at_the_end(tuning, "sophia", 2.0)
    assert at_the_end(tuning, "sophia", 4.0)
    assert not at_the_end(tuning[:1], "sophia", 1.0)
    with pytest.raises(DataError, match="adamw blew up"):
        best_rate(tuning, "adamw")


def test_times_are_of_each_optimizer() -> None:
    runs = [TRIAL, replace(TRIAL, seconds=4.0), replace(TRIAL, optimizer="adamw", seconds=1.0)]
    assert mean_step(runs, "sophia") == 0.75
    assert mean_seconds(runs) == {"sophia": 3.0, "adamw": 1.0}


def test_differences_are_paired_by_seed() -> None:
    arms = [
        replace(TRIAL, optimizer=name, seed=seed, held_out_bits_per_byte=bits)
        for name, seed, bits in (
            ("sophia", 1, 0.8), ("adamw", 1, 0.9), ("adamw", 2, 0.7), ("sophia", 2, 0.75),
        )
    ]  # fmt: skip
    assert differences(arms) == pytest.approx([-0.1, 0.05])


def test_the_interval_is_students() -> None:
    found = paired([-0.02, -0.01, -0.03])
    assert found.mean == pytest.approx(-0.02)
    # 4.303 * 0.01 / sqrt(3)
    assert found.ci95 == pytest.approx((-0.04484, 0.00484), abs=1e-5)
    assert paired([0.1]).ci95 is None
    assert paired([0.0, 0.1] * 20).ci95 is not None


@pytest.mark.parametrize(
    ("interval", "said"),
    [
        ((-0.2, -0.1), "Sophia is better here"),
        ((0.1, 0.2), "AdamW is better here"),
        ((-0.1, 0.1), "cannot tell them apart"),
    ],
)
def test_the_sentence_says_no_more_than_the_interval(
    interval: tuple[float, float], said: str
) -> None:
    text = sentence(Difference(mean=sum(interval) / 2, ci95=interval), 3, TIMES)
    assert said in text
    assert "mean of 3 seeds" in text
    assert "After 60.2 s" in text
    assert "after 59.9 s" in text


def test_the_sentence_owns_up() -> None:
    one = sentence(Difference(mean=0.1, ci95=None), 1, TIMES, ["adamw"])
    assert "says nothing" in one
    assert "above AdamW" in one
    assert "best rate of AdamW was the last of those tried" in one


def test_steps_share_out_the_hessian() -> None:
    reports = [report(1.0), report(1.8, estimated=True), report(1.0), report(2.2, estimated=True)]
    assert trial.shared_out(reports, 10) == pytest.approx(1.1)
    assert trial.shared_out([report(1.0)], 10) == 1.0
    assert trial.steps_for(60, 1.5) == 40
    assert trial.steps_for(1, 1.5) == trial.LEAST_STEPS


def test_overheads_come_from_neighbouring_steps() -> None:
    pairs = [
        (report(2.04, estimated=True), report(1.0)), (report(1.02), report(1.0)),
        (report(4.04, estimated=True), report(3.0)), (report(3.02), report(3.0)),
    ]  # fmt: skip
    # Bare: median 2 s; the penalty 0.02 s; an estimate 1.02 s, each tenth step.
    found = overhead.shares(pairs, 10)
    assert found["spectral"] == pytest.approx(0.01)
    assert found["hessian"] == pytest.approx(0.102 / 2.02, abs=1e-4)


def test_the_same_seed_gives_all_optimizers_the_same_batches() -> None:
    samples = [
        Sample(tokens=(at,) * 9, labels=(at,) * 9, weights=(1.0,) * 9) for at in range(1, 12)
    ]
    recipe = Recipe(batch_tokens=20)
    long = trial.planned(samples, 14, recipe)
    assert len(long) == 14
    assert trial.planned(samples, 6, replace(recipe, optimizer="adamw")) == long[:6]
    assert trial.planned(samples, 6, replace(recipe, seed=1)) != long[:6]


def arms() -> list[dict[str, object]]:
    return [
        {
            "optimizer": name,
            "curve": [(0.0, 1.2), (30.0, 1.0 + shift), (61.0, 0.9 + shift + 0.01 * seed)],
        }
        for (name, shift), seed in itertools.product((("sophia", 0.0), ("adamw", 0.001)), range(2))
    ]


def test_the_picture_is_well_formed() -> None:
    root = ElementTree.fromstring(draw(arms(), "A < B & C"))
    names = {"s": "http://www.w3.org/2000/svg"}
    assert root.findtext("s:title", namespaces=names) == "A < B & C"
    assert len(root.findall("s:path[@class='seed sophia']", names)) == 2
    assert len(root.findall("s:path[@class='mean adamw']", names)) == 1
    labels = [text for text in root.findall("s:text", names) if "label" in text.get("class", "")]
    assert len(labels) == 2
    places = sorted(float(text.get("y", "0")) for text in labels)
    assert places[1] - places[0] >= 18


@pytest.mark.parametrize("values", [(0.0, 61.0), (0.871, 1.206), (0.5, 0.5), (0.0, 0.0), (3, 3e4)])
def test_an_axis_has_round_ticks_around_all_values(values: tuple[float, float]) -> None:
    found = axis(values, 100, 500)
    assert found.low <= values[0]
    assert found.high >= values[1] - 1e-9
    assert 2 <= len(found.ticks) <= 9
    assert found.at(found.low) == 100
    assert found.at(found.high) == 500


def test_an_axis_may_end_at_its_greatest_value() -> None:
    found = axis((0.0, 61.0), 100, 500, whole=False)
    assert found.at(61.0) == 500
    assert found.ticks == (0.0, 20.0, 40.0, 60.0)
