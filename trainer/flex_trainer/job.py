"""One adapter of a run: trained, exported, measured and promoted."""

import asyncio
import itertools
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from flex_assist.adapters import integrity, quota
from flex_assist.adapters import manifest as manifests
from flex_assist.adapters.manifest import Manifest
from flex_assist.adapters.registry import new_version
from flex_assist.errors import ConfigError
from flex_assist.files import write_json_atomically
from flex_assist.repository.documents import Document
from flex_assist.repository.snapshot import Snapshot
from flex_trainer import (
    agreement,
    early_stopping,
    export,
    gate_verdict,
    memory,
    moments,
    outcome,
    report,
)
from flex_trainer.checkpoint import Progress
from flex_trainer.corpus import Sample
from flex_trainer.curriculum import Common, Lessons
from flex_trainer.events import Event
from flex_trainer.export import Origin
from flex_trainer.gate import Active, Candidate, Gate
from flex_trainer.loop import Trainer
from flex_trainer.lora import Masters
from flex_trainer.measurement import Measurement
from flex_trainer.parent import Parent
from flex_trainer.plan import RunPlan
from flex_trainer.report import ReportRecord
from flex_trainer.report_examples import Examples
from flex_trainer.selection import AdapterTask
from flex_trainer.stage import Interrupted, Stage, adapted
from flex_trainer.time_limit import TimeLimit
from flex_trainer.workshop import Workshop

OUTCOME_FILE = "outcome.json"


def done(folder: Path) -> dict[str, Any] | None:
    """What came of an adapter that has been made already.

    Args:
        folder: The adapter's, in the run's.
    """
    path = folder / OUTCOME_FILE
    return dict(json.loads(path.read_text())) if path.is_file() else None


class AdapterJob:
    """One adapter: its parts in the order in which they happen.

    Args:
        lessons: What it is trained on.
        start: What it begins with: a common adapter, a version, or nothing.
    """

    def __init__(
        self,
        shop: Workshop,
        task: AdapterTask,
        run_plan: RunPlan,
        snapshot: Snapshot,
        lessons: Lessons,
        start: Common | Parent | None,
    ) -> None:
        self._shop, self._task, self._plan, self._snapshot = shop, task, run_plan, snapshot
        self._lessons = lessons
        self._common = start if isinstance(start, Common) else None
        self._parent = start if isinstance(start, Parent) else None
        self._folder = shop.folder / task.name

    def run(self, base: Any) -> dict[str, Any] | None:
        """Make the adapter; what came of it. None on workers that only help.

        Args:
            base: The model; as before afterwards.

        Raises:
            Interrupted: The user asked to stop; training is kept.
            OutOfMemory: It does not fit on this device; training is kept.
        """
        with adapted(self._shop, base, self._plan.recipe) as model:
            trainer = self._train(model)
            if not self._shop.workers.leads:
                return None
            return self._finish(model, trainer)

    def _train(self, model: Any) -> Trainer:
        recipe, name, lessons = self._plan.recipe, self._task.name, self._lessons
        stage = Stage(
            self._shop, name, self._plan, lessons.own,
            start=self._start(model),
            validation=self._validation(lessons.validation, recipe.seed),
        )  # fmt: skip
        return stage.train(model, self._factors(model))

    def _start(self, model: Any) -> Mapping[str, torch.Tensor] | None:
        if self._parent is not None:
            return self._parent.weights(Masters.of(model).state())
        return self._common.weights if self._common else None

    def _validation(self, documents: Sequence[Document], seed: int) -> list[Sample]:
        """Infilling samples of documents that are not trained on."""
        if not documents:
            return []
        fim = self._shop.fim
        samples = self._shop.corpus(documents, seed).samples(0)
        infilling = (sample for sample in samples if fim.prefix_id in sample.tokens)
        return list(itertools.islice(infilling, early_stopping.MOST_SAMPLES))

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

    def _finish(self, model: Any, trainer: Trainer) -> dict[str, Any]:
        """Export, measure and promote."""
        shop, name = self._shop, self._task.name
        trainer.forget()
        memory.release()
        trainer.take_best()
        trainer.masters.shrink(self._plan.recipe.shrink)
        shop.listen(Event(phase="export", language=name))
        staged, version = shop.registry.stage(name), new_version()
        try:
            origin = self._origin(version)
            exported = export.write_files(model, trainer.masters, origin, staged)
            self._check_merged(staged, exported)
            shop.listen(Event(phase="gate", language=name))
            measured = self._measure(staged)
            if shop.stop_asked():
                raise Interrupted(f"stopped before {name} was promoted; go on with --resume")
            found = self._publish(staged, version, measured, trainer.progress, exported)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
        write_json_atomically(self._folder / OUTCOME_FILE, found)
        return found

    def _origin(self, version: str) -> Origin:
        shop = self._shop
        # Where the base is spread over several processes, one alone cannot run it.
        texts = () if shop.workers.sharded else tuple(one.text for one in self._task.train)
        return Origin(
            path=shop.base.path,
            base_name=shop.base.name,
            base_sha256=self._plan.base_sha256,
            name=self._task.name,
            version=version,
            fim=shop.fim,
            texts=texts,
            encode=shop.vocabulary.encode,
            seed=self._plan.recipe.seed,
        )

    def _check_merged(self, staged: Path, exported: dict[str, Any]) -> None:
        """Whether the merged file says of code that was not trained on what the adapter says."""
        shop = self._shop
        texts = (one.text for one in (*self._task.test, *self._task.tune))
        asyncio.run(
            agreement.check_merged(
                shop.engine, shop.served, staged, texts, shop.vocabulary.encode, exported
            )
        )

    def _measure(self, staged: Path) -> Measurement:
        shop = self._shop
        judge = Gate(
            engine=shop.engine,
            model=shop.served,
            settings=shop.settings,
            locations=shop.locations,
            train=self._task.train,
            recent=self._snapshot.recent(),
            active=self._active(),
        )
        limit = shop.budget.gate_limit(len(self._plan.steps))
        return asyncio.run(self._judged(judge, staged, limit))

    def _active(self) -> Active | None:
        """The version that answers now, where it is one of the same base."""
        found = self._shop.registry.active(self._task.name)
        if found is None or found.manifest.base_sha256 != self._plan.base_sha256:
            return None
        data = found.manifest.data
        return Active(
            version=found.manifest.version,
            adapter=Candidate(lora=found.lora, fim=found.manifest.fim),
            seen=frozenset(
                str(one.get("sha256")) for one in data if one["verdict"] in outcome.SEEN
            ),
        )

    async def _judged(self, judge: Gate, staged: Path, limit: TimeLimit) -> Measurement:
        shop, seed = self._shop, self._plan.recipe.seed
        try:
            return await judge.measure(
                staged, shop.fim, self._task.test, self._plan.gate, seed, limit
            )
        finally:
            # The next adapter is trained in this memory.
            await shop.engine.unload()
            memory.release()

    def _seen(self) -> tuple[str, ...]:
        """The languages whose files the weights have learnt from: the common adapter's as well."""
        return self._common.languages if self._common else self._task.languages

    def _publish(
        self,
        staged: Path,
        version: str,
        measured: Measurement,
        progress: Progress,
        exported: dict[str, Any],
    ) -> dict[str, Any]:
        shop, name = self._shop, self._task.name
        active = self._active()
        verdict = gate_verdict.judge(measured, active.version if active else None)
        manifest = Manifest(
            name=name,
            version=version,
            languages=self._task.languages,
            base_model=shop.base.name,
            base_sha256=self._plan.base_sha256,
            fim=shop.fim,
            verdict=verdict.name,
            reason=verdict.reason,
            metrics=measured.figures(),
            data=self._data_records(),
            details={
                **outcome.details(
                    self._plan, self._task, progress, self._common, shop.budget.spent_s()
                ),
                "export": exported,
            },
            artefacts=(digests := export.digests(staged)),
            sizes=integrity.sizes(staged, list(digests)),
            parent=self._parent.version if self._parent else None,
        )
        self._describe(staged, manifest, measured.examples)
        if verdict.promoted:
            shop.listen(Event(phase="promote", language=name))
        published = shop.registry.publish(name, staged, version, activate=verdict.promoted)
        self._tidy(version)
        return {
            "version": published.manifest.version,
            "promoted": verdict.promoted,
            "verdict": verdict.name,
            "reason": verdict.reason,
            "metrics": measured.figures(),
            "training_s": progress.seconds,
        }

    def _tidy(self, version: str) -> None:
        """Keep the repository's adapters within their disk space, and say what went."""
        shop, name = self._shop, self._task.name
        most_mb = shop.settings.storage.adapters_mb
        for note in quota.tidy(shop.registry, most_mb, (name, version)):
            shop.listen(Event(phase="promote", language=name, note=note))

    def _describe(self, staged: Path, manifest: Manifest, examples: Examples) -> None:
        """Write the manifest, and the report for people.

        The report holds the manifest's digests, and so has none of its own among them.
        """
        path = staged / manifests.FILE_NAME
        path.write_text(manifests.to_json(manifest))
        path.chmod(0o600)
        repository = self._snapshot.root.resolve().name
        report.write(
            staged, ReportRecord(repository=repository, manifest=manifest, examples=examples)
        )

    def _data_records(self) -> list[dict[str, Any]]:
        """What the weights have seen, and what mining said of the rest."""
        own = outcome.data_records(self._snapshot, self._seen())
        others = outcome.without_adapter(self._snapshot, self._task.without)
        earlier = self._parent.inherited(self._task.train) if self._parent else []
        return own + others + earlier
