"""The use case: adapt a base model to a repository, one adapter per language."""

import asyncio
import itertools
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from flex_assist.adapters import manifest as manifests
from flex_assist.adapters.manifest import Manifest
from flex_assist.adapters.registry import Registry, new_version
from flex_assist.config import Settings
from flex_assist.engine.local import LocalEngine
from flex_assist.errors import ConfigError, DataError, FlexAssistError
from flex_assist.files import write_json_atomically
from flex_assist.locations import Locations, private_directory, repository_id
from flex_assist.locks import exclusive
from flex_assist.models import store
from flex_assist.models.store import BaseModel
from flex_assist.repository.snapshot import Snapshot, take_snapshot
from flex_trainer import (
    base_model,
    checkpoint,
    device,
    export,
    gate,
    lora,
    moments,
    outcome,
    plan,
    probe,
)
from flex_trainer.budget import Budget
from flex_trainer.corpus import Corpus, Sample
from flex_trainer.events import Event, Listener
from flex_trainer.gate import Gate, Measurement
from flex_trainer.loop import StepReport, Trainer
from flex_trainer.outcome import AdaptResult
from flex_trainer.packing import batches
from flex_trainer.plan import RunPlan
from flex_trainer.recipe import LEARNING_RATE, Recipe
from flex_trainer.selection import AdapterTask, Selection, select
from flex_trainer.vocabulary import Vocabulary, fim_tokens

CHECKPOINT_EVERY_S = 60.0
PROBE_STEPS = 4
PROBE_MARGIN = 1.1
PROBE_TOKENS = 256
# A run may be this much slower than planned before training is cut short.
PATIENCE = 1.1
PACKAGES = ("torch", "transformers", "peft", "llama-cpp-python", "gguf")


class Interrupted(FlexAssistError):
    """The run was stopped; a checkpoint is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptOptions:
    """What one run is asked for."""

    root: Path
    languages: tuple[str, ...] | None = None
    train_files: tuple[str, ...] | None = None
    budget_s: float
    resume: bool = False


def adapt(
    options: AdaptOptions,
    settings: Settings,
    locations: Locations,
    listen: Listener,
    stop_asked: Callable[[], bool] = lambda: False,
) -> AdaptResult:
    """Mine, train, export, measure and promote.

    Args:
        listen: Told what is going on.
        stop_asked: Asked after each step; True stops with a checkpoint.

    Raises:
        Interrupted: ``stop_asked`` said so.
        BusyError: Another run works on the repository.
        DataError, ModelError, ExportError: With what to do.
    """
    registry = Registry(locations, options.root)
    private_directory(registry.folder)
    with exclusive(registry.lock_file, what=f"the repository {str(options.root)!r}"):
        registry.sweep()
        return _Run(options, settings, locations, registry, listen, stop_asked).go()


class _Run:
    """One run: its parts in the order in which they happen."""

    def __init__(
        self,
        options: AdaptOptions,
        settings: Settings,
        locations: Locations,
        registry: Registry,
        listen: Listener,
        stop_asked: Callable[[], bool],
    ) -> None:
        self._options, self._settings, self._locations = options, settings, locations
        self._registry, self._listen, self._stop_asked = registry, listen, stop_asked
        self._budget = Budget(seconds=options.budget_s, started_s=time.monotonic())
        self._folder = locations.training(repository_id(options.root))
        self._base: BaseModel = store.find(settings.model.base)
        self._engine = LocalEngine(settings.engine)

    def go(self) -> AdaptResult:
        """The whole run."""
        stored = plan.load(self._folder) if self._options.resume else None
        if stored is not None:
            self._take_up(stored)
        snapshot = self._mine()
        self._listen(Event(phase="load"))
        self._served = store.serving_path(self._settings.model.base, self._locations)
        self._vocabulary = Vocabulary(self._engine, self._served)
        self._fim = fim_tokens(self._engine, self._served, self._base)
        selection = select(snapshot, self._settings.mining, self._vocabulary.count)
        if not selection.tasks:
            raise DataError(outcome.too_little(snapshot, selection))
        try:
            run_plan = (
                self._resumed(stored, snapshot, selection)
                if stored
                else self._plan(snapshot, selection)
            )
            outcomes = {
                task.name: self._adapter(task, run_plan, snapshot) for task in selection.tasks
            }
        finally:
            asyncio.run(self._engine.close())
        self._listen(Event(phase="done"))
        shutil.rmtree(self._folder, ignore_errors=True)
        return AdaptResult(
            repository=str(self._options.root),
            base_model=self._base.name,
            seconds=round(time.monotonic() - self._budget.started_s, 1),
            languages=outcome.languages_of(selection, outcomes),
            peak_memory_mb=device.peak_memory_mb(),
            optimizer=run_plan.recipe.optimizer,
            regularizer=run_plan.recipe.regularizer,
        )

    def _take_up(self, stored: RunPlan) -> None:
        """Go on with what the interrupted run was asked for."""
        self._options = replace(
            self._options, languages=stored.languages, train_files=stored.train_files
        )
        training = replace(self._settings.training, seed=stored.recipe.seed)
        self._settings = replace(self._settings, training=training, prompt=stored.prompt)

    def _mine(self) -> Snapshot:
        def progress(done: int, total: int) -> None:
            self._listen(Event(phase="mine", step=done, steps=total))

        return take_snapshot(
            self._options.root,
            self._settings.mining,
            seed=self._settings.training.seed,
            languages=self._options.languages,
            train_files=self._options.train_files,
            progress=progress,
        )

    def _resumed(self, stored: RunPlan, snapshot: Snapshot, selection: Selection) -> RunPlan:
        """The stored plan, if this is still the same work."""
        if {task.name for task in selection.tasks} != set(stored.steps):
            raise DataError(
                "the settings of mining have changed since the run was interrupted; "
                "run without --resume"
            )
        if stored.data != plan.data_digest(snapshot):
            raise DataError(
                "the repository has changed since the run was interrupted; run without --resume"
            )
        if stored.base_sha256 != store.sha256(self._base.path, self._locations):
            raise DataError("the interrupted run had another base model; run without --resume")
        device.use_threads(stored.recipe.threads)
        self._model = self._load(stored.recipe)
        return stored

    def _plan(self, snapshot: Snapshot, selection: Selection) -> RunPlan:
        """Probe the machine, share the budget out, and store what was decided."""
        shutil.rmtree(self._folder, ignore_errors=True)
        private_directory(self._folder)
        recipe = self._recipe()
        self._model = self._load(recipe)
        self._listen(Event(phase="plan"))
        tasks, count = selection.tasks, len(selection.tasks)
        step_s = probe.step_seconds(self._model, self._corpus(tasks[0], recipe), recipe)
        token = self._vocabulary.encode("\n")[0]
        speed = probe.prompt_tokens_per_s(self._engine, self._served, token)
        epochs = self._settings.training.epochs
        training_s = self._budget.training_s(count)
        prompt = self._settings.prompt
        usual = prompt.prefix_tokens + prompt.suffix_tokens + prompt.retrieval_tokens
        made = RunPlan(
            data=plan.data_digest(snapshot),
            recipe=recipe,
            prompt=prompt,
            steps=plan.share_steps(tasks, training_s, step_s, recipe, epochs),
            gate=gate.plan_gate(self._budget.gate_s(count), speed, usual),
            step_s=step_s,
            base_sha256=store.sha256(self._base.path, self._locations),
            languages=self._options.languages,
            train_files=self._options.train_files,
            budget_s=self._budget.seconds,
        )
        plan.save(made, self._folder)
        return made

    def _recipe(self) -> Recipe:
        training = self._settings.training
        place = device.choose_device()
        threads = device.use_threads(training.threads)
        return Recipe(
            optimizer=training.optimizer,
            regularizer=training.regularizer,
            rank=training.rank,
            learning_rate=training.learning_rate or LEARNING_RATE[training.optimizer],
            seed=training.seed,
            device=str(place),
            dtype=str(device.choose_dtype(place)).removeprefix("torch."),
            threads=threads,
        )

    def _load(self, recipe: Recipe) -> Any:
        dtype = getattr(torch, recipe.dtype)
        return base_model.load_base(self._base.path, torch.device(recipe.device), dtype)

    def _corpus(self, task: AdapterTask, recipe: Recipe) -> Corpus:
        return Corpus(
            task.train, self._vocabulary.encode, self._fim, self._settings.prompt, recipe.seed
        )

    def _adapter(self, task: AdapterTask, run_plan: RunPlan, snapshot: Snapshot) -> dict[str, Any]:
        """Train, export, measure and promote one adapter; what came of it."""
        done = self._folder / task.name / "outcome.json"
        if done.is_file():
            return dict(json.loads(done.read_text()))
        model = lora.attach(self._model, run_plan.recipe.rank, run_plan.recipe.seed)
        trainer = self._train(task, run_plan, model, snapshot)
        trainer.masters.shrink(run_plan.recipe.shrink)
        self._listen(Event(phase="export", language=task.name))
        staged = self._registry.stage(task.name)
        try:
            export.write_files(
                model, trainer.masters, self._base.path, self._base.name, staged, self._fim
            )
            self._model = model.unload()
            self._listen(Event(phase="gate", language=task.name))
            measured = self._measure(task, staged, run_plan)
            if self._stop_asked():
                raise Interrupted(f"stopped before {task.name} was promoted; go on with --resume")
            found = self._publish(task, staged, measured, run_plan, trainer, snapshot)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
        write_json_atomically(done, found)
        return found

    def _train(
        self, task: AdapterTask, run_plan: RunPlan, model: Any, snapshot: Snapshot
    ) -> Trainer:
        recipe, steps = run_plan.recipe, run_plan.steps[task.name]
        corpus = self._corpus(task, recipe)
        factors = self._factors(task, recipe, model, snapshot)
        trainer = Trainer(model, recipe, planned_batches(corpus, steps, recipe), factors)
        folder = self._folder / task.name
        found = checkpoint.latest(folder) if self._options.resume else None
        if found is not None:
            trainer.restore(*found)
        saved_s = time.monotonic()

        def should_stop(progress: checkpoint.Progress) -> bool:
            nonlocal saved_s
            if time.monotonic() - saved_s > CHECKPOINT_EVERY_S:
                trainer.save(folder)
                saved_s = time.monotonic()
            late = (
                progress.seconds > PATIENCE * steps * run_plan.step_s and not self._options.resume
            )
            return self._stop_asked() or late

        trainer.run(report=self._reporter(task.name), should_stop=should_stop)
        # Whatever happens while the files are made and measured, training is not lost.
        trainer.save(folder)
        if self._stop_asked():
            raise Interrupted(
                f"stopped at step {trainer.progress.step} of {steps} of {task.name}; "
                "a checkpoint is kept: go on with --resume"
            )
        return trainer

    def _factors(
        self, task: AdapterTask, recipe: Recipe, model: Any, snapshot: Snapshot
    ) -> dict[str, torch.Tensor] | None:
        """What the modules see on other languages' code, where the regularizer asks for it."""
        if recipe.regularizer != "activation":
            return None
        others = [d.text for d in snapshot.train if d.language not in task.languages]
        if not others:
            raise ConfigError(
                "the activation regularizer needs code of a second language in the repository; "
                "use --regularizer spectral"
            )
        return moments.input_factors(
            model, [self._vocabulary.encode(text) for text in others], recipe.seed
        )

    def _reporter(self, name: str) -> Callable[[StepReport], None]:
        smoothed: list[float] = []

        def report(step: StepReport) -> None:
            smoothed.append(step.loss if not smoothed else 0.9 * smoothed[-1] + 0.1 * step.loss)
            seconds = step.tokens / step.tokens_per_s
            self._listen(
                Event(
                    phase="train",
                    language=name,
                    step=step.step,
                    steps=step.steps,
                    loss=smoothed[-1],
                    tokens_per_s=step.tokens_per_s,
                    eta_s=(step.steps - step.step) * seconds,
                )
            )

        return report

    def _measure(self, task: AdapterTask, staged: Path, run_plan: RunPlan) -> Measurement:
        judge = Gate(
            engine=self._engine,
            model=self._served,
            settings=self._settings,
            locations=self._locations,
            train=task.train,
        )
        until_s = self._budget.gate_until_s(len(run_plan.steps))
        return asyncio.run(
            judge.measure(
                staged, self._fim, task.held_out, run_plan.gate, run_plan.recipe.seed, until_s
            )
        )

    def _publish(
        self,
        task: AdapterTask,
        staged: Path,
        measured: Measurement,
        run_plan: RunPlan,
        trainer: Trainer,
        snapshot: Snapshot,
    ) -> dict[str, Any]:
        version = new_version()
        manifest = Manifest(
            name=task.name,
            version=version,
            languages=task.languages,
            base_model=self._base.name,
            base_sha256=run_plan.base_sha256,
            fim=self._fim,
            verdict="promoted" if measured.helps else "kept-base",
            reason=measured.reason(),
            metrics=asdict(measured),
            data=outcome.data_records(snapshot, task.languages),
            details=outcome.details(run_plan, trainer.progress),
            artefacts=export.digests(staged),
        )
        path = staged / manifests.FILE_NAME
        path.write_text(manifests.to_json(manifest))
        path.chmod(0o600)
        published = self._registry.publish(task.name, staged, version)
        if measured.helps:
            self._listen(Event(phase="promote", language=task.name))
            self._registry.activate(task.name, version)
        return {
            "version": published.manifest.version,
            "promoted": measured.helps,
            "reason": manifest.reason,
            "metrics": asdict(measured),
        }


def planned_batches(corpus: Corpus, steps: int, recipe: Recipe) -> list[list[Sample]]:
    """The batches of all steps, over as many passes as they need."""
    chosen: list[list[Sample]] = []
    for epoch in itertools.count():
        samples = list(corpus.samples(epoch))
        chosen.extend(batches(samples, recipe.batch_tokens, f"{recipe.seed}:{epoch}"))
        if len(chosen) >= steps or not samples:
            return chosen[:steps]
    raise AssertionError("the passes have no end")
