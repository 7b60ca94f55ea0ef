"""One training run for so many steps, and how well it ends on text that was held out."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import torch

from flex_trainer import lora, losses
from flex_trainer.corpus import Sample
from flex_trainer.loop import StepReport, Trainer
from flex_trainer.packing import hidden_states, pack, planned_batches, split
from flex_trainer.recipe import Recipe

LEAST_STEPS = 4
PROBE_STEPS = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """Windows of text, and the bytes of text that the tokens of all but each first stand for."""

    windows: tuple[Sample, ...]
    size: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ground:
    """What all runs have in common: base, data, and the recipe but for optimizer, rate and seed."""

    model: Any
    train: tuple[Sample, ...]
    held_out: HeldOut
    recipe: Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A run.

    Attributes:
        curve: Training seconds and held-out bits per byte at some steps, start and end included.
    """

    optimizer: str
    lr: float
    seed: int
    steps: int
    seconds: float
    held_out_bits_per_byte: float
    curve: tuple[tuple[float, float], ...]

    @property
    def ended(self) -> bool:
        """Whether it came to its end with a number."""
        return math.isfinite(self.held_out_bits_per_byte)


def bits_per_byte(core: Any, held_out: HeldOut, row_tokens: int) -> float:
    """Of the model with its adapter as it is now."""
    return nats(core, held_out.windows, row_tokens) / math.log(2) / held_out.size


@torch.no_grad()
def nats(core: Any, samples: Sequence[Sample], row_tokens: int) -> float:
    """Loss of all labels of the samples, summed."""
    total, head = 0.0, core.get_output_embeddings().weight
    for group in split(samples, row_tokens):
        row = pack(group, core.device)
        total += float(losses.loss_sum(hidden_states(core, row), head, row.labels))
    return total


def run(ground: Ground, recipe: Recipe, steps: int, points: int) -> Trial:
    """Train a fresh adapter.

    Args:
        points: How often to look at the held-out text, the end included. Looking takes no training
            time.
    """
    marks = {round(steps * number / points) for number in range(1, points + 1)}
    seconds = 0.0
    curve = list[tuple[float, float]]()

    def look() -> None:
        bits = bits_per_byte(ground.model, ground.held_out, recipe.row_tokens)
        curve.append((round(seconds, 2), round(bits, 5)))

    def report(done: StepReport) -> None:
        nonlocal seconds
        seconds += done.seconds
        if done.step in marks:
            look()

    with lora.attached(ground.model, recipe) as adapted:
        look()
        Trainer(adapted, recipe, planned(ground.train, steps, recipe)).run(
            report=report, should_stop=lambda _: False
        )
    return Trial(
        optimizer=recipe.optimizer,
        lr=recipe.learning_rate,
        seed=recipe.seed,
        steps=steps,
        seconds=curve[-1][0],
        held_out_bits_per_byte=curve[-1][1],
        curve=tuple(curve),
    )


def blown_up(recipe: Recipe) -> Trial:
    """A run that came to no end."""
    return Trial(
        optimizer=recipe.optimizer,
        lr=recipe.learning_rate,
        seed=recipe.seed,
        steps=0,
        seconds=0.0,
        held_out_bits_per_byte=math.inf,
        curve=(),
    )


def planned(samples: Sequence[Sample], steps: int, recipe: Recipe) -> list[list[Sample]]:
    """Batches for so many steps; with the same seed the same for every optimizer."""

    def shuffled(epoch: int) -> list[Sample]:
        order = list(samples)
        random.Random(f"{recipe.seed}:{epoch}:order").shuffle(order)
        return order

    return planned_batches(shuffled, steps, recipe)


def step_seconds(ground: Ground, recipe: Recipe) -> float:
    """Seconds of a step, the Hessian's passes shared out over all. The base is as before."""
    probed = replace(recipe, hessian_every=2, penalty_after=0.0)
    reports: list[StepReport] = []
    with lora.attached(ground.model, recipe) as adapted:
        Trainer(adapted, probed, planned(ground.train, PROBE_STEPS, probed)).run(
            report=reports.append, should_stop=lambda _: False
        )
    return shared_out(reports[1:], recipe.hessian_every)


def shared_out(reports: Sequence[StepReport], every: int) -> float:
    """The median step, and 1 / ``every`` of what a step with an estimate of the Hessian adds."""
    plain = median(one.seconds for one in reports if one.unclipped_share is None)
    longer = [one.seconds for one in reports if one.unclipped_share is not None]
    extra = median(longer) - plain if longer else 0.0
    return plain + max(0.0, extra) / every


def steps_for(seconds: float, step_s: float) -> int:
    """Steps that fit; the schedule needs a few."""
    return max(LEAST_STEPS, round(seconds / step_s))
