"""What the Hessian's pass and the penalty cost, timed in turn in one process."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from typing import Any

from flex_trainer import lora
from flex_trainer.corpus import Sample
from flex_trainer.loop import StepReport, Trainer
from flex_trainer.recipe import Recipe

WARM_UP = 4


def measure(
    models: tuple[Any, Any], recipe: Recipe, batch: Sequence[Sample], steps: int
) -> dict[str, float]:
    """Shares of a step's time.

    Two trainers go in turn over the same batch: one has the penalty, and an estimate of the Hessian
    in each second step, the other has neither. So what else the machine does meets all alike.

    Args:
        models: Two copies of the base; a LoRA is left on each.
        steps: Of each kind.

    Returns:
        ``hessian``: of an estimate each ``recipe.hessian_every`` steps. ``spectral``: of the
        penalty. Both over a step without it.
    """
    rounds = 2 * steps + WARM_UP
    full = replace(
        recipe, optimizer="sophia", regularizer="spectral", penalty_after=0.0, hessian_every=2
    )
    bare = replace(full, regularizer="none", hessian_every=rounds + 2)
    sides = [
        _Stepwise(model, kind, batch, rounds)
        for model, kind in zip(models, (full, bare), strict=True)
    ]
    reports = [tuple(side.step() for side in sides) for _ in range(rounds)][WARM_UP:]
    return shares(reports, recipe.hessian_every)


def shares(reports: Sequence[tuple[StepReport, ...]], every: int) -> dict[str, float]:
    """The shares, from pairs of neighbouring steps with everything and with nothing."""
    extra = [
        full.seconds - bare.seconds for full, bare in reports if full.unclipped_share is not None
    ]
    penalty = [
        full.seconds - bare.seconds for full, bare in reports if full.unclipped_share is None
    ]
    bare_s = median(bare.seconds for _, bare in reports)
    penalty_s = median(penalty)
    hessian_s = (median(extra) - penalty_s) / every
    return {
        "hessian": round(hessian_s / (bare_s + penalty_s), 4),
        "spectral": round(penalty_s / bare_s, 4),
    }


class _Stepwise:
    """A trainer that does one step when asked."""

    def __init__(self, model: Any, recipe: Recipe, batch: Sequence[Sample], steps: int) -> None:
        adapted = lora.attach_as(model, recipe)
        self._trainer = Trainer(adapted, recipe, [batch] * steps)
        self._reports: list[StepReport] = []

    def step(self) -> StepReport:
        wanted = len(self._reports) + 1
        self._trainer.run(
            report=self._reports.append, should_stop=lambda _: len(self._reports) >= wanted
        )
        return self._reports[-1]
