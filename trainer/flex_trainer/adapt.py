"""The use case: adapt a base model to a repository, one adapter per language."""

import asyncio
import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from flex_assist.adapters import left_out, traces
from flex_assist.adapters.registry import Registry
from flex_assist.config import Settings
from flex_assist.engine.local import LocalEngine
from flex_assist.errors import DataError, ModelError
from flex_assist.locations import Locations, private_directory, repository_id
from flex_assist.locks import exclusive
from flex_assist.models import store
from flex_assist.models.store import BaseModel
from flex_assist.repository import forgotten
from flex_assist.repository.snapshot import Snapshot, take_snapshot
from flex_trainer import (
    curriculum,
    device,
    gate,
    instructions,
    job,
    outcome,
    parallel,
    parent,
    placement,
    plan,
    planner,
    probe,
    routing,
)
from flex_trainer.budget import Budget
from flex_trainer.curriculum import Common, Lessons
from flex_trainer.events import Event, Listener, silent
from flex_trainer.job import AdapterJob
from flex_trainer.memory import OutOfMemory
from flex_trainer.outcome import AdaptResult
from flex_trainer.parallel import Workers
from flex_trainer.parent import Parent
from flex_trainer.plan import Asked, RunPlan
from flex_trainer.recipe import Recipe
from flex_trainer.selection import AdapterTask, Selection, select
from flex_trainer.vocabulary import Vocabulary, fim_tokens
from flex_trainer.workshop import Workshop

Made = TypeVar("Made")


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptOptions:
    """What one run is asked for.

    Attributes:
        from_active: Adapters begin with the weights of their active versions.
    """

    root: Path
    languages: tuple[str, ...] | None = None
    train_files: tuple[str, ...] | None = None
    budget_s: float
    resume: bool = False
    from_active: bool = False


def adapt(
    options: AdaptOptions,
    settings: Settings,
    locations: Locations,
    listen: Listener,
    stop_asked: Callable[[], bool] = lambda: False,
) -> AdaptResult:
    """Mine, train, export, measure and promote.

    Under ``torchrun`` or ``accelerate launch`` all processes work on the one run; each returns the
    result.

    Args:
        listen: Told what is going on.
        stop_asked: Asked after each step; True stops with a checkpoint.

    Raises:
        Interrupted: ``stop_asked`` said so.
        BusyError: Another run works on the repository.
        ConfigError: The budget is too short.
        DataError, ModelError, ExportError: With what to do.
        DivergedError: Training blew up again and again.
    """
    workers = parallel.join()
    registry = Registry(locations, options.root)
    private_directory(registry.folder)
    try:
        with _alone(registry, options.root) if workers.leads else contextlib.nullcontext():
            told = listen if workers.leads else silent
            return _Run(options, settings, locations, registry, workers, told, stop_asked).go()
    finally:
        parallel.leave()


@contextlib.contextmanager
def _alone(registry: Registry, root: Path) -> Iterator[None]:
    with exclusive(registry.lock_file, what=f"the repository {str(root)!r}"):
        registry.sweep()
        # Where forgetting was killed half way.
        traces.remove(traces.of(forgotten.load(registry.folder), registry), registry)
        yield


class _Run:
    """One run: its parts in the order in which they happen."""

    def __init__(
        self,
        options: AdaptOptions,
        settings: Settings,
        locations: Locations,
        registry: Registry,
        workers: Workers,
        listen: Listener,
        stop_asked: Callable[[], bool],
    ) -> None:
        self._options, self._settings, self._locations = options, settings, locations
        self._registry, self._workers = registry, workers
        self._listen, self._stop_asked = listen, stop_asked
        self._folder = locations.training(repository_id(options.root))
        self._engine = LocalEngine(settings.engine)
        self._taught: dict[str, Lessons] = {}
        self._common: Common | None = None
        self._parents: dict[str, Parent] = {}

    def go(self) -> AdaptResult:
        """The whole run."""
        stored = self._take_up()
        self._base: BaseModel = store.find(self._settings.model.base)
        shared, several = self._settings.training.parallel, self._workers.size > 1
        self._apart = several and shared == "languages"
        self._workers = replace(self._workers, sharded=several and shared == "sharded")
        self._budget = Budget(seconds=self._options.budget_s, started_s=time.monotonic())
        snapshot = self._mine()
        # Where certain files only are to be learnt from, their history is not.
        share = 0.0 if self._options.train_files else self._settings.training.instruction_share
        self._commits = instructions.commits(self._options.root, snapshot, share)
        self._listen(Event(phase="load"))
        self._served = store.serving_path(self._settings.model.base, self._locations)
        self._vocabulary = Vocabulary(self._engine, self._served)
        self._fim = fim_tokens(self._engine, self._served, self._base)
        selection = select(snapshot, self._settings.mining, self._vocabulary.count)
        if not selection.tasks:
            raise DataError(outcome.too_little(snapshot, selection))
        try:
            self._run_plan = self._planned(stored, snapshot, selection)
            self._parents = parent.named(self._registry, self._run_plan.parents)
            selection = parent.unseen(selection, self._parents)
            outcomes = self._make(selection, snapshot)
            if self._workers.leads:
                routing.write_table(self._workshop(), snapshot, self._run_plan)
        finally:
            asyncio.run(self._engine.close())
        self._listen(Event(phase="done"))
        if self._workers.leads:
            shutil.rmtree(self._folder, ignore_errors=True)
        return self._result(selection, outcomes)

    def _take_up(self) -> RunPlan | None:
        """What an interrupted run was asked for, and its plan if it came so far."""
        asked = Asked(
            languages=self._options.languages,
            train_files=self._options.train_files,
            budget_s=self._options.budget_s,
            base=self._settings.model.base,
            training=self._settings.training,
            from_active=self._options.from_active,
        )
        stored = None
        if self._workers.leads:
            if self._options.resume:
                asked, stored = plan.load_asked(self._folder), plan.load(self._folder)
            if stored is None:
                self._begin(asked)
        asked = plan.asked_from_record(self._workers.told(asdict(asked)))
        record = self._workers.told(None if stored is None else asdict(stored))
        stored = None if record is None else plan.from_record(record)
        self._options = replace(
            self._options,
            languages=asked.languages,
            train_files=asked.train_files,
            budget_s=asked.budget_s,
            from_active=asked.from_active,
        )
        model = replace(self._settings.model, base=asked.base)
        self._settings = replace(self._settings, training=asked.training, model=model)
        if stored is not None:
            self._settings = replace(self._settings, prompt=stored.prompt)
        return stored

    def _begin(self, asked: Asked) -> None:
        """An empty folder, and in it what is asked for: from here on the run can be resumed."""
        shutil.rmtree(self._folder, ignore_errors=True)
        private_directory(self._folder)
        plan.save_asked(asked, self._folder)

    def _mine(self) -> Snapshot:
        def progress(done: int, total: int) -> None:
            self._listen(Event(phase="mine", step=done, steps=total))

        return take_snapshot(
            self._options.root,
            self._settings.mining,
            seed=self._settings.training.seed,
            languages=self._options.languages,
            train_files=self._options.train_files,
            forgotten=left_out.of(self._options.root, self._locations),
            progress=progress,
        )

    def _planned(self, stored: RunPlan | None, snapshot: Snapshot, selection: Selection) -> RunPlan:
        """The plan, the same on all workers; the base model stands ready then."""
        if stored is not None:
            base_sha256 = store.sha256(self._base.path, self._locations)
            plan.check(stored, snapshot, [task.name for task in selection.tasks], base_sha256)
            device.use_threads(stored.recipe.threads)
            self._model = self._load(stored.recipe)
            return stored
        own = self._plan(snapshot, selection)
        if self._workers.leads:
            plan.save(own, self._folder)
        made = plan.from_record(self._workers.told(asdict(own)))
        if plan.where(made.recipe) != plan.where(own.recipe):
            # Another machine than the leader's.
            self._model = self._load(made.recipe)
        self._listen(Event(phase="plan", note=plan.describe(made)))
        return made

    def _plan(self, snapshot: Snapshot, selection: Selection) -> RunPlan:
        """Probe the machine and share memory and time out."""
        settings = self._settings.training
        self._listen(Event(phase="plan"))
        tasks, count = selection.tasks, len(selection.tasks)
        token = self._vocabulary.encode("\n")[0]
        served = probe.served(self._engine, self._served, token)
        speed = served.tokens_per_s
        placed = placement.fitting(self._workshop(), tasks[0], served.gate_bytes)
        self._model, recipe = placed.model, placed.recipe
        corpus = self._workshop().corpus(tasks[0].train, recipe.seed)
        together = Workers() if self._apart else self._workers
        step_s = probe.step_seconds(self._model, corpus, recipe, together)
        if not settings.steps:
            planner.check_budget(self._budget, count, step_s, speed)
        lanes = self._workers.size if self._apart else 1
        base_sha256 = store.sha256(self._base.path, self._locations)
        parents = {}
        if self._options.from_active:
            parents = parent.choose(self._registry, tasks, recipe, base_sha256, self._listen)
        # Activations of other languages' code are what the common adapter learns from.
        if count - len(parents) > 1 and recipe.regularizer != "activation":
            recipe = replace(recipe, common_share=settings.common_share)
        training_s = lanes * self._budget.training_s(-(-count // lanes))
        prompt = self._settings.prompt
        usual = prompt.prefix_tokens + prompt.suffix_tokens + prompt.retrieval_tokens
        steps = (
            dict.fromkeys((task.name for task in tasks), settings.steps)
            if settings.steps
            else planner.share_steps(tasks, training_s, step_s, recipe, settings.epochs)
        )
        return RunPlan(
            data=plan.data_digest(snapshot),
            recipe=recipe,
            prompt=prompt,
            steps=steps,
            fixed_steps=bool(settings.steps),
            gate=gate.plan_gate(self._budget.gate_s(count), speed, usual),
            step_s=step_s,
            base_sha256=base_sha256,
            prediction=planner.predict(self._budget, steps, step_s, placed.memory_mb, speed, lanes),
            parents=parents,
        )

    def _load(self, recipe: Recipe) -> Any:
        return placement.load(self._base, recipe)

    def _workshop(self, *, together: bool = False) -> Workshop:
        """What adapters are made with.

        Args:
            together: By all workers, also where each makes adapters of its own.
        """
        return Workshop(
            settings=self._settings,
            locations=self._locations,
            registry=self._registry,
            folder=self._folder,
            budget=self._budget,
            base=self._base,
            served=self._served,
            engine=self._engine,
            vocabulary=self._vocabulary,
            fim=self._fim,
            commits=self._commits,
            resume=self._options.resume,
            workers=Workers() if self._apart and not together else self._workers,
            listen=self._listen,
            stop_asked=self._stop_asked,
        )

    def _make(self, selection: Selection, snapshot: Snapshot) -> dict[str, dict[str, Any]]:
        """All adapters, one after the other; or each worker some of them."""
        self._common = self._made_common(selection)
        if not self._apart:
            return {
                task.name: self._workers.told(self._adapter(task, snapshot))
                for task in selection.tasks
            }
        own = selection.tasks[self._workers.rank :: self._workers.size]
        return self._workers.gathered({task.name: self._adapter(task, snapshot) for task in own})

    def _made_common(self, selection: Selection) -> Common | None:
        """What all adapters begin with; None where each begins anew, or all are there already."""
        recipe = self._run_plan.recipe
        ready = all(self._done(task) is not None for task in selection.tasks)
        if not recipe.common_share or self._workers.any(ready):
            return None
        found = [self._lessons(t) for t in selection.tasks if t.name not in self._parents]
        batches = curriculum.mixed(found, recipe.seed)
        languages = tuple(name for task in selection.tasks for name in task.languages)
        return self._within_memory(
            curriculum.COMMON,
            lambda: curriculum.train_common(
                self._workshop(together=True), self._model, self._run_plan, batches, languages
            ),
        )

    def _adapter(self, task: AdapterTask, snapshot: Snapshot) -> dict[str, Any] | None:
        """What came of one adapter, made now or before the run was interrupted."""
        found = self._done(task)
        if self._workshop().workers.any(found is not None):
            return found
        start = self._parents.get(task.name) or self._common
        made = self._within_memory(
            task.name,
            lambda: AdapterJob(
                self._workshop(), task, self._run_plan, snapshot, self._lessons(task), start
            ).run(self._model),
        )
        self._taught.pop(task.name, None)
        return made

    def _done(self, task: AdapterTask) -> dict[str, Any] | None:
        return job.done(self._folder / task.name)

    def _lessons(self, task: AdapterTask) -> Lessons:
        """What an adapter is trained on. Kept until it is made: samples take long to make."""
        if task.name not in self._taught:
            steps, recipe = self._run_plan.steps[task.name], self._run_plan.recipe
            if task.name in self._parents:
                recipe = replace(recipe, common_share=0.0)
            self._taught[task.name] = curriculum.lessons(
                task, recipe, steps, self._workshop().corpus
            )
        return self._taught[task.name]

    def _within_memory(self, name: str, make: Callable[[], Made]) -> Made:
        """What ``make`` gives; where memory runs out on a GPU, once more on the CPU."""
        try:
            return make()
        except OutOfMemory as error:
            # Several processes would have to move together.
            if self._run_plan.recipe.device == placement.CPU or self._workers.size > 1:
                raise ModelError(
                    f"memory ran out in training {name}; a checkpoint is kept: close other "
                    "programs and go on with --resume"
                ) from error
        # Outside of the handler, so that the memory is free again.
        self._move_to_cpu()
        return self._within_memory(name, make)

    def _move_to_cpu(self) -> None:
        """From here on, for this adapter and those that follow."""
        self._listen(Event(phase="load", note="the GPU's memory is too small: on the CPU from now"))
        self._options = replace(self._options, resume=True)
        recipe = placement.on_cpu(self._run_plan.recipe, self._settings.training)
        self._run_plan = replace(self._run_plan, recipe=recipe)
        self._model = self._load(recipe)

    def _result(self, selection: Selection, outcomes: dict[str, dict[str, Any]]) -> AdaptResult:
        recipe = self._run_plan.recipe
        seconds = self._budget.spent_s()
        trained_s = sum(found.get("training_s", 0.0) for found in outcomes.values())
        trained_s += self._common.seconds if self._common else 0.0
        peak_mb = device.peak_memory_mb(torch.device(recipe.device))
        return AdaptResult(
            repository=str(self._options.root),
            base_model=self._base.name,
            seconds=round(seconds, 1),
            languages=outcome.languages_of(selection, outcomes),
            peak_memory_mb=peak_mb,
            optimizer=recipe.optimizer,
            regularizer=recipe.regularizer,
            plan=self._run_plan.prediction.against(peak_mb, trained_s, seconds),
        )
