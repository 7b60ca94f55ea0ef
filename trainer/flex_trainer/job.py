"""One adapter of a run: trained, exported, measured and promoted."""

import asyncio
import itertools
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from flex_assist.adapters import manifest as manifests
from flex_assist.adapters.manifest import Manifest
from flex_assist.adapters.registry import Registry, new_version
from flex_assist.config import Settings
from flex_assist.engine.local import LocalEngine
from flex_assist.errors import ConfigError, FlexAssistError
from flex_assist.files import write_json_atomically
from flex_assist.locations import Locations
from flex_assist.models.fim import FimTokens
from flex_assist.models.store import BaseModel
from flex_assist.repository.documents import Document
from flex_assist.repository.snapshot import Snapshot
from flex_trainer import (
    checkpoint,
    early_stopping,
    export,
    lora,
    memory,
    moments,
    outcome,
    parallel,
)
from flex_trainer.budget import Budget
from flex_trainer.corpus import Corpus, Sample
from flex_trainer.events import Event, Listener
from flex_trainer.gate import Gate, Measurement
from flex_trainer.loop import StepReport, Trainer
from flex_trainer.memory import OutOfMemory
from flex_trainer.packing import planned_batches
from flex_trainer.parallel import Workers
from flex_trainer.plan import RunPlan
from flex_trainer.planner import TOKENS_PER_TOKEN
from flex_trainer.selection import AdapterTask
from flex_trainer.vocabulary import Vocabulary

CHECKPOINT_EVERY_S = 60.0
# A run may be this much slower than planned before training is cut short.
PATIENCE = 1.1
OUTCOME_FILE = "outcome.json"


class Interrupted(FlexAssistError):
    """The run was stopped; a checkpoint is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """What all adapters of a run are made with.

    Attributes:
        folder: Of the run: plan, checkpoints, outcomes.
        served: The base's file as it is served.
        resume: Whether checkpoints are taken up.
        workers: Those that train one adapter together.
    """

    settings: Settings
    locations: Locations
    registry: Registry
    folder: Path
    budget: Budget
    base: BaseModel
    served: Path
    engine: LocalEngine
    vocabulary: Vocabulary
    fim: FimTokens
    resume: bool
    workers: Workers
    listen: Listener
    stop_asked: Callable[[], bool]

    def corpus(self, documents: Sequence[Document], seed: int) -> Corpus:
        """The samples that documents give."""
        return Corpus(documents, self.vocabulary.encode, self.fim, self.settings.prompt, seed)


class AdapterJob:
    """One adapter: its parts in the order in which they happen."""

    def __init__(
        self, shop: Workshop, task: AdapterTask, run_plan: RunPlan, snapshot: Snapshot
    ) -> None:
        self._shop, self._task, self._plan, self._snapshot = shop, task, run_plan, snapshot
        self._folder = shop.folder / task.name

    def done(self) -> dict[str, Any] | None:
        """What came of it, if it has been made already."""
        path = self._folder / OUTCOME_FILE
        return dict(json.loads(path.read_text())) if path.is_file() else None

    def run(self, base: Any) -> dict[str, Any] | None:
        """Make the adapter; what came of it. None on workers that only help.

        Args:
            base: The model; as before afterwards.

        Raises:
            Interrupted: The user asked to stop; training is kept.
            OutOfMemory: It does not fit on this device; training is kept.
        """
        model = lora.attach_as(base, self._plan.recipe)
        if self._shop.workers.sharded:
            parallel.shard(model)
        try:
            trainer = self._train(model)
            if not self._shop.workers.leads:
                return None
            return self._finish(model, trainer)
        finally:
            model.unload()

    def _train(self, model: Any) -> Trainer:
        shop, recipe, name = self._shop, self._plan.recipe, self._task.name
        steps = self._plan.steps[name]
        of_a_pass = max(1.0, self._task.tokens * TOKENS_PER_TOKEN)
        passes = steps * recipe.batch_tokens / of_a_pass
        train, validation = early_stopping.divided(self._task.train, passes)
        batches = planned_batches(shop.corpus(train, recipe.seed).samples, steps, recipe)
        samples = self._validation(validation, recipe.seed)
        trainer = Trainer(
            model, recipe, batches, self._factors(model), shop.workers, validation=samples
        )
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
        # Whatever happens while the files are made and measured, training is not lost.
        self._keep(trainer)
        if shop.workers.any(shop.stop_asked()):
            raise Interrupted(
                f"stopped at step {trainer.progress.step} of {len(batches)} of {name}; "
                "a checkpoint is kept: go on with --resume"
            )
        return trainer

    def _keep(self, trainer: Trainer) -> None:
        """Write a checkpoint; one worker does it for all."""
        if self._shop.workers.leads:
            trainer.save(self._folder, self._plan.identity)

    def _validation(self, documents: Sequence[Document], seed: int) -> list[Sample]:
        """Infilling samples of documents that are not trained on."""
        if not documents:
            return []
        fim = self._shop.fim
        samples = self._shop.corpus(documents, seed).samples(0)
        infilling = (sample for sample in samples if fim.prefix_id in sample.tokens)
        return list(itertools.islice(infilling, early_stopping.MOST_SAMPLES))

    def _take_up(self, trainer: Trainer) -> None:
        """Go on from the newest whole checkpoint; all workers from the leader's."""
        shop = self._shop
        if not shop.resume:
            return
        found = None
        if shop.workers.leads:
            found = checkpoint.latest(self._folder, self._plan.identity, self._tell)
        shared = shop.workers.from_leader(found)
        if shared is not None:
            trainer.restore(*shared)

    def _is_late(self, progress: checkpoint.Progress) -> bool:
        """Whether training has used up its time. Never where the number of steps was asked for."""
        if self._plan.fixed_steps or self._shop.resume:
            return False
        planned_s = self._plan.steps[self._task.name] * self._plan.step_s
        return progress.seconds > PATIENCE * planned_s

    def _factors(self, model: Any) -> dict[str, torch.Tensor] | None:
        """What the modules see on other languages' code, where the regularizer asks for it."""
        recipe = self._plan.recipe
        if recipe.regularizer != "activation":
            return None
        train = self._snapshot.train
        others = [d.text for d in train if d.language not in self._task.languages]
        if not others:
            raise ConfigError(
                "the activation regularizer needs code of a second language in the repository; "
                "use --regularizer spectral"
            )
        encode = self._shop.vocabulary.encode
        return moments.input_factors(model, [encode(text) for text in others], recipe.seed)

    def _tell(self, note: str) -> None:
        self._shop.listen(Event(phase="train", language=self._task.name, note=note))

    def _reporter(self) -> Callable[[StepReport], None]:
        smoothed: list[float] = []

        def report(step: StepReport) -> None:
            smoothed.append(step.loss if not smoothed else 0.9 * smoothed[-1] + 0.1 * step.loss)
            self._shop.listen(
                Event(
                    phase="train",
                    language=self._task.name,
                    step=step.step,
                    steps=step.steps,
                    loss=smoothed[-1],
                    tokens_per_s=step.tokens_per_s,
                    eta_s=(step.steps - step.step) * step.seconds,
                    note="; ".join(step.notes) or None,
                )
            )

        return report

    def _finish(self, model: Any, trainer: Trainer) -> dict[str, Any]:
        """Export, measure and promote."""
        shop, name = self._shop, self._task.name
        trainer.forget()
        memory.release()
        trainer.take_best()
        trainer.masters.shrink(self._plan.recipe.shrink)
        shop.listen(Event(phase="export", language=name))
        staged = shop.registry.stage(name)
        try:
            export.write_files(
                model, trainer.masters, shop.base.path, shop.base.name, staged, shop.fim
            )
            shop.listen(Event(phase="gate", language=name))
            measured = self._measure(staged)
            if shop.stop_asked():
                raise Interrupted(f"stopped before {name} was promoted; go on with --resume")
            found = self._publish(staged, measured, trainer.progress)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
        write_json_atomically(self._folder / OUTCOME_FILE, found)
        return found

    def _measure(self, staged: Path) -> Measurement:
        shop = self._shop
        judge = Gate(
            engine=shop.engine,
            model=shop.served,
            settings=shop.settings,
            locations=shop.locations,
            train=self._task.train,
        )
        until_s = shop.budget.gate_until_s(len(self._plan.steps))
        return asyncio.run(self._judged(judge, staged, until_s))

    async def _judged(self, judge: Gate, staged: Path, until_s: float) -> Measurement:
        shop, seed = self._shop, self._plan.recipe.seed
        try:
            return await judge.measure(
                staged, shop.fim, self._task.held_out, self._plan.gate, seed, until_s
            )
        finally:
            # The next adapter is trained in this memory.
            await shop.engine.unload()
            memory.release()

    def _publish(
        self, staged: Path, measured: Measurement, progress: checkpoint.Progress
    ) -> dict[str, Any]:
        shop, name, version = self._shop, self._task.name, new_version()
        manifest = Manifest(
            name=name,
            version=version,
            languages=self._task.languages,
            base_model=shop.base.name,
            base_sha256=self._plan.base_sha256,
            fim=shop.fim,
            verdict="promoted" if measured.helps else "kept-base",
            reason=measured.reason(),
            metrics=asdict(measured),
            data=outcome.data_records(self._snapshot, self._task.languages),
            details=outcome.details(self._plan, progress),
            artefacts=export.digests(staged),
        )
        path = staged / manifests.FILE_NAME
        path.write_text(manifests.to_json(manifest))
        path.chmod(0o600)
        published = shop.registry.publish(name, staged, version)
        if measured.helps:
            shop.listen(Event(phase="promote", language=name))
            shop.registry.activate(name, version)
        return {
            "version": published.manifest.version,
            "promoted": measured.helps,
            "reason": manifest.reason,
            "metrics": asdict(measured),
            "training_s": progress.seconds,
        }
