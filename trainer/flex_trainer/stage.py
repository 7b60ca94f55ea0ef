"""Steps that are trained in one go, with checkpoints on the way."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from peft import PeftModel
from torch import Tensor

from flex_assist.errors import FlexAssistError
from flex_trainer import checkpoint, lora, parallel
from flex_trainer.corpus import Sample
from flex_trainer.events import Event
from flex_trainer.loop import StepReport, Trainer
from flex_trainer.memory import OutOfMemory
from flex_trainer.plan import RunPlan
from flex_trainer.recipe import Recipe
from flex_trainer.workshop import Workshop

CHECKPOINT_EVERY_S = 60.0
# A run may be this much slower than planned before training is cut short.
PATIENCE = 1.1


class Interrupted(FlexAssistError):
    """The run was stopped; a checkpoint is kept."""


@contextlib.contextmanager
def adapted(shop: Workshop, base: Any, recipe: Recipe) -> Iterator[PeftModel]:
    """The base with a fresh LoRA, spread over the workers where they share it."""
    with lora.attached(base, recipe) as model:
        if shop.workers.sharded:
            parallel.shard(model)
        yield model


class Stage:
    """Trains an adapter on some batches.

    Args:
        name: Of the adapter; its checkpoints are in the folder of this name.
        start: Weights to begin with; fresh ones without.
        validation: See ``Trainer``.
    """

    def __init__(
        self,
        shop: Workshop,
        name: str,
        run_plan: RunPlan,
        batches: Sequence[Sequence[Sample]],
        *,
        start: Mapping[str, Tensor] | None = None,
        validation: Sequence[Sample] = (),
    ) -> None:
        self._shop, self._name, self._plan = shop, name, run_plan
        self._batches, self._start, self._validation = batches, start, validation
        self._folder, self._identity = shop.folder / name, f"{run_plan.identity}:{name}"

    def train(self, model: Any, factors: Mapping[str, Tensor] | None = None) -> Trainer:
        """Train to the end, from the newest checkpoint where the run is resumed.

        Args:
            model: The base with its LoRA attached.
            factors: See ``Trainer``.

        Raises:
            Interrupted: The user asked to stop; a checkpoint is kept.
            OutOfMemory: It does not fit on this device; a checkpoint is kept.
        """
        shop = self._shop
        trainer = Trainer(
            model, self._plan.recipe, self._batches, factors, shop.workers,
            validation=self._validation, give_way=shop.give_way,
        )  # fmt: skip
        if self._start is not None:
            trainer.masters.load(self._start)
        self._take_up(trainer)
        saved_s = time.monotonic()

        def should_stop(progress: checkpoint.Progress) -> bool:
            nonlocal saved_s
            if time.monotonic() - saved_s > CHECKPOINT_EVERY_S:
                self._keep(trainer)
                saved_s = time.monotonic()
            return shop.stop_asked() or self._is_late(progress)

        try:
            trainer.run(report=self._reporter(), should_stop=should_stop)
        except OutOfMemory:
            self._keep(trainer)
            raise
        interrupted = shop.workers.any(shop.stop_asked())
        if not interrupted:
            # Also where it was cut short: what follows goes on from these very weights.
            trainer.end()
        # Whatever happens while the files are made and measured, training is not lost.
        self._keep(trainer)
        if interrupted:
            raise Interrupted(
                f"stopped at step {trainer.progress.step} of {len(self._batches)} of {self._name}; "
                "a checkpoint is kept: go on with --resume"
            )
        return trainer

    def _keep(self, trainer: Trainer) -> None:
        """Write a checkpoint; one worker does it for all."""
        if self._shop.workers.leads:
            trainer.save(self._folder, self._identity)

    def _take_up(self, trainer: Trainer) -> None:
        """Go on from the newest whole checkpoint; all workers from the leader's."""
        shop = self._shop
        if not shop.resume:
            return
        found = None
        if shop.workers.leads:
            found = checkpoint.latest(self._folder, self._identity, self._tell)
        shared = shop.workers.from_leader(found)
        if shared is not None:
            trainer.restore(*shared)

    def _is_late(self, progress: checkpoint.Progress) -> bool:
        """Whether training has used up its time. Never where the number of steps was asked for."""
        if self._plan.fixed_steps or self._shop.resume:
            return False
        return progress.seconds > PATIENCE * len(self._batches) * self._plan.step_s

    def _tell(self, note: str) -> None:
        self._shop.listen(Event(phase="train", language=self._name, note=note))

    def _reporter(self) -> Callable[[StepReport], None]:
        smoothed: list[float] = []

        def report(step: StepReport) -> None:
            smoothed.append(step.loss if not smoothed else 0.9 * smoothed[-1] + 0.1 * step.loss)
            self._shop.listen(
                Event(
                    phase="train",
                    language=self._name,
                    step=step.step,
                    steps=step.steps,
                    loss=smoothed[-1],
                    tokens_per_s=step.tokens_per_s,
                    eta_s=(step.steps - step.step) * step.seconds,
                    note="; ".join(step.notes) or None,
                )
            )

        return report
