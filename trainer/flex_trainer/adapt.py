"""The use case: adapt a base model to a repository, one adapter per language."""

import asyncio
import importlib.metadata
import itertools
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from flex_assist import __version__
from flex_assist.adapters import manifest as manifests
from flex_assist.adapters.manifest import Manifest
from flex_assist.adapters.registry import Registry, new_version
from flex_assist.adapters.router import SHARED
from flex_assist.config import Settings
from flex_assist.engine.local import LocalEngine
from flex_assist.engine.protocol import TextPiece, Weights
from flex_assist.errors import ConfigError, DataError, FlexAssistError, ModelError
from flex_assist.files import write_json_atomically
from flex_assist.locations import Locations, private_directory, repository_id
from flex_assist.locks import exclusive
from flex_assist.models import store
from flex_assist.models.fim import FimTokens
from flex_assist.models.store import BaseModel
from flex_assist.repository.snapshot import Snapshot, take_snapshot
from flex_trainer import base_model, checkpoint, device, export, gate, lora, moments, plan
from flex_trainer.budget import Budget
from flex_trainer.corpus import Corpus, Sample, batches
from flex_trainer.events import Event, Listener
from flex_trainer.gate import Gate, GatePlan, Measurement
from flex_trainer.loop import StepReport, Trainer
from flex_trainer.plan import AdapterPlan, RunPlan
from flex_trainer.recipe import LEARNING_RATE, Recipe
from flex_trainer.selection import AdapterTask, Selection, select

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


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptResult:
    """What a run achieved; ``languages`` as the command line prints it."""

    repository: str
    base_model: str
    seconds: float
    languages: dict[str, dict[str, Any]]
    peak_memory_mb: float
    optimizer: str
    regularizer: str

    @property
    def promoted(self) -> bool:
        """Whether any language has a new adapter."""
        return any(found["adapter"] is not None for found in self.languages.values())


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
        self._ids: dict[str, list[int]] = {}

    def go(self) -> AdaptResult:
        """The whole run."""
        snapshot = self._mine()
        self._listen(Event(phase="load"))
        self._served = store.serving_path(self._settings.model.base, self._locations)
        self._fim = self._fim_tokens()
        selection = select(snapshot, self._settings.mining, lambda text: len(self._encode(text)))
        if not selection.tasks:
            raise DataError(_too_little(snapshot, selection))
        run_plan = self._plan(snapshot, selection)
        try:
            outcomes = {
                task.name: self._adapter(task, run_plan, snapshot) for task in selection.tasks
            }
        finally:
            asyncio.run(self._engine.close())
        self._listen(Event(phase="done"))
        shutil.rmtree(self._folder, ignore_errors=True)
        return self._result(selection, outcomes, run_plan)

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

    def _encode(self, text: str) -> list[int]:
        if text not in self._ids:
            pieces = [TextPiece(text=text)]
            self._ids[text] = self._engine.tokenize_now(self._served, pieces)[0]
        return self._ids[text]

    def _fim_tokens(self) -> FimTokens:
        """The infilling tokens to train with: the model's own, or sentinels that it never met."""
        facts = asyncio.run(self._engine.facts(self._served))
        if facts.fim_ids is not None:
            prefix, suffix, middle = facts.fim_ids
            return FimTokens(
                suffix_id=suffix, prefix_id=prefix, middle_id=middle, end_id=facts.end_ids[0]
            )
        texts = self._base.entry.fim_sentinels if self._base.entry else None
        if texts is None:
            raise ModelError(
                f"{self._base.name!r} has no infilling tokens and none are known for it; "
                "use a model of `flex-assist models list`"
            )
        pieces = [TextPiece(text=text, special=True) for text in texts]
        ids = self._engine.tokenize_now(self._served, pieces)
        if any(len(found) != 1 for found in ids):
            raise ModelError(f"{self._base.name!r} lacks the control tokens {texts!r}")
        suffix, prefix, middle, end = (found[0] for found in ids)
        return FimTokens(suffix_id=suffix, prefix_id=prefix, middle_id=middle, end_id=end)

    def _plan(self, snapshot: Snapshot, selection: Selection) -> RunPlan:
        if self._options.resume:
            return self._planned(snapshot)
        shutil.rmtree(self._folder, ignore_errors=True)
        private_directory(self._folder)
        recipe = self._recipe()
        self._model = self._load(recipe)
        self._listen(Event(phase="plan"))
        step_s = self._probe_step(selection.tasks[0], recipe)
        speed = self._probe_engine()
        count = len(selection.tasks)
        steps = plan.share_steps(
            selection.tasks,
            self._budget.training_s(count),
            step_s,
            recipe,
            self._settings.training.epochs,
        )
        prompt = self._settings.prompt
        usual = prompt.prefix_tokens + prompt.suffix_tokens + prompt.retrieval_tokens
        measured = gate.plan_gate(self._budget.gate_s(count), speed, usual)
        adapters = tuple(
            AdapterPlan(
                name=task.name,
                steps=steps[task.name],
                seconds=steps[task.name] * step_s,
                gate=measured,
            )
            for task in selection.tasks
        )
        made = RunPlan(
            data=plan.data_digest(snapshot),
            recipe=recipe,
            adapters=adapters,
            step_s=step_s,
            prompt_tokens_per_s=speed,
            base_sha256=store.sha256(self._base.path, self._locations),
            languages=self._options.languages,
            train_files=self._options.train_files,
            budget_s=self._budget.seconds,
        )
        plan.save(made, self._folder)
        return made

    def _planned(self, snapshot: Snapshot) -> RunPlan:
        """The stored plan, if this is still the same work."""
        stored = plan.load(self._folder)
        if stored.data != plan.data_digest(snapshot):
            raise DataError(
                "the repository has changed since the run was interrupted; run without --resume"
            )
        if stored.base_sha256 != store.sha256(self._base.path, self._locations):
            raise DataError("the interrupted run had another base model; run without --resume")
        device.use_threads(stored.recipe.threads)
        self._model = self._load(stored.recipe)
        return stored

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
        return Corpus(task.train, self._encode, self._fim, self._settings.prompt, recipe.seed)

    def _probe_step(self, task: AdapterTask, recipe: Recipe) -> float:
        """Seconds of a usual step, by doing some and forgetting them."""
        corpus = self._corpus(task, recipe)
        samples = list(itertools.islice(corpus.samples(0), 24))
        some = batches(samples, recipe.batch_tokens, "probe")
        some = (some * (PROBE_STEPS + 1))[: PROBE_STEPS + 1]
        model = lora.attach(self._model, recipe.rank, recipe.seed)
        seconds: list[float] = []
        if recipe.regularizer == "activation":
            # It needs other languages' code; the spectral one takes as long.
            recipe = replace(recipe, regularizer="spectral")
        Trainer(model, recipe, some).run(
            report=lambda report: seconds.append(report.tokens / report.tokens_per_s),
            should_stop=lambda _: False,
        )
        self._model = model.unload()
        # The best of a few: what else the machine does just now is not to decide the plan.
        usual = min(seconds[1:]) * PROBE_MARGIN
        return usual * (1 + 1 / recipe.hessian_every if recipe.optimizer == "sophia" else 1)

    def _probe_engine(self) -> float:
        """Prompt tokens a second of the base as served."""
        weights, tokens = Weights(model=self._served), [self._encode("\n")[0]] * PROBE_TOKENS
        asyncio.run(self._engine.warm(weights))
        started = time.perf_counter()
        asyncio.run(self._engine.score(weights, [tokens]))
        return PROBE_TOKENS / (time.perf_counter() - started)

    def _adapter(self, task: AdapterTask, run_plan: RunPlan, snapshot: Snapshot) -> dict[str, Any]:
        """Train, export, measure and promote one adapter; what came of it."""
        done = self._folder / task.name / "outcome.json"
        if done.is_file():
            return dict(json.loads(done.read_text()))
        own = next(adapter for adapter in run_plan.adapters if adapter.name == task.name)
        model = lora.attach(self._model, run_plan.recipe.rank, run_plan.recipe.seed)
        trainer = self._train(task, own, run_plan.recipe, model, snapshot)
        self._listen(Event(phase="export", language=task.name))
        staged = self._registry.stage(task.name)
        try:
            export.write_files(
                model, trainer.masters, self._base.path, self._base.name, staged, self._fim
            )
            self._model = model.unload()
            self._listen(Event(phase="gate", language=task.name))
            measured = self._measure(task, staged, own.gate, run_plan.recipe.seed)
            outcome = self._publish(task, staged, measured, run_plan, trainer, snapshot)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
        write_json_atomically(done, outcome)
        return outcome

    def _train(
        self, task: AdapterTask, own: AdapterPlan, recipe: Recipe, model: Any, snapshot: Snapshot
    ) -> Trainer:
        corpus = self._corpus(task, recipe)
        factors = self._factors(task, recipe, model, snapshot)
        trainer = Trainer(model, recipe, planned_batches(corpus, own.steps, recipe), factors)
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
            late = progress.seconds > PATIENCE * own.seconds and not self._options.resume
            return self._stop_asked() or late

        trainer.run(report=self._reporter(task.name), should_stop=should_stop)
        if self._stop_asked():
            trainer.save(folder)
            raise Interrupted(
                f"stopped at step {trainer.progress.step} of {own.steps} of {task.name}; "
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
        return moments.input_factors(model, [self._encode(t) for t in others], recipe.seed)

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

    def _measure(
        self, task: AdapterTask, staged: Path, planned: GatePlan, seed: int
    ) -> Measurement:
        judge = Gate(
            engine=self._engine,
            model=self._served,
            settings=self._settings,
            locations=self._locations,
            train=task.train,
        )
        return asyncio.run(judge.measure(staged, self._fim, task.held_out, planned, seed))

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
            data=data_records(snapshot, task.languages),
            details=self._details(run_plan, trainer),
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

    def _details(self, run_plan: RunPlan, trainer: Trainer) -> dict[str, Any]:
        packages = {name: importlib.metadata.version(name) for name in PACKAGES}
        progress = trainer.progress
        return {
            "recipe": asdict(run_plan.recipe),
            "plan": {"step_s": run_plan.step_s, "budget_s": run_plan.budget_s},
            "packages": {"flex-assist": __version__, **packages},
            "steps": progress.step,
            "labelled_tokens": progress.tokens,
            "training_s": round(progress.seconds, 1),
            "losses": list(progress.losses),
            "peak_memory_mb": device.peak_memory_mb(),
        }

    def _result(
        self, selection: Selection, outcomes: dict[str, dict[str, Any]], run_plan: RunPlan
    ) -> AdaptResult:
        by_language = {
            language: task.name for task in selection.tasks for language in task.languages
        }
        languages = {}
        for name, counts in selection.counts.items():
            outcome = outcomes.get(by_language.get(name, ""))
            languages[name] = {**asdict(counts), **_verdict(by_language.get(name), outcome)}
            if name in selection.too_little:
                languages[name]["reason"] = selection.too_little[name]
        return AdaptResult(
            repository=str(self._options.root),
            base_model=self._base.name,
            seconds=round(time.monotonic() - self._budget.started_s, 1),
            languages=languages,
            peak_memory_mb=device.peak_memory_mb(),
            optimizer=run_plan.recipe.optimizer,
            regularizer=run_plan.recipe.regularizer,
        )


def planned_batches(corpus: Corpus, steps: int, recipe: Recipe) -> list[list[Sample]]:
    """The batches of all steps, over as many passes as they need."""
    chosen: list[list[Sample]] = []
    for epoch in itertools.count():
        samples = list(corpus.samples(epoch))
        chosen.extend(batches(samples, recipe.batch_tokens, f"{recipe.seed}:{epoch}"))
        if len(chosen) >= steps or not samples:
            return chosen[:steps]
    raise AssertionError("the passes have no end")


def data_records(snapshot: Snapshot, languages: Sequence[str]) -> list[dict[str, Any]]:
    """What a manifest keeps of the files of ``languages``."""
    digests = {d.path: d.sha256 for d in (*snapshot.train, *snapshot.held_out)}
    return [
        replaced
        for verdict in snapshot.verdicts
        if verdict.language in languages
        for replaced in [
            {
                "path": verdict.path.encode("utf-8", "surrogateescape").decode(
                    "utf-8", "backslashreplace"
                ),
                "sha256": digests.get(verdict.path),
                "verdict": verdict.verdict,
                "rule": verdict.rule,
            }
        ]
    ]


def _verdict(adapter: str | None, outcome: dict[str, Any] | None) -> dict[str, Any]:
    if adapter is None or outcome is None:
        return {
            "bits_per_byte": None,
            "exact_match": None,
            "verdict": "too-little",
            "reason": "",
            "adapter": None,
        }
    metrics = outcome["metrics"]
    bits = {**metrics["bits_per_byte"], "ci95": list(metrics["ci95"])}
    verdict = "pooled" if adapter == SHARED else "promoted" if outcome["promoted"] else "kept-base"
    return {
        "bits_per_byte": bits,
        "exact_match": metrics["exact_match"],
        "fim_nats_per_token": metrics["fim_nats"],
        "verdict": verdict,
        "reason": outcome["reason"],
        "adapter": f"{adapter}/{outcome['version']}" if outcome["promoted"] else None,
    }


def _too_little(snapshot: Snapshot, selection: Selection) -> str:
    if selection.too_little:
        name, why = next(iter(selection.too_little.items()))
        return f"there is too little code to learn from: {name}: {why}"
    skipped = snapshot.skipped_by_rule()
    seen = ", ".join(f"{count} {rule}" for rule, count in list(skipped.items())[:4])
    return (
        f"{str(snapshot.root)!r} has no source code of a supported language"
        + (f" (left out: {seen})" if seen else "")
        + "; see `flex-assist adapt --dry-run`"
    )
