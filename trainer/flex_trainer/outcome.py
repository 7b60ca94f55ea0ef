"""What is recorded and reported of a run."""

import importlib.metadata
from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

import torch

from flex_assist import __version__
from flex_assist.adapters.router import SHARED
from flex_assist.repository.documents import printable_path
from flex_assist.repository.snapshot import Snapshot
from flex_trainer import device, planner
from flex_trainer.checkpoint import Progress
from flex_trainer.curriculum import Common
from flex_trainer.plan import RunPlan
from flex_trainer.selection import AdapterTask, Selection

PACKAGES = ("torch", "transformers", "peft", "llama-cpp-python", "gguf")
# Verdicts of files that an adapter's weights were trained on, its parent's included.
SEEN = ("train", "inherited")


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptResult:
    """What a run achieved; ``languages`` as the command line prints it.

    Attributes:
        plan: What was expected of memory and time, and what was measured.
    """

    repository: str
    base_model: str
    seconds: float
    languages: dict[str, dict[str, Any]]
    peak_memory_mb: float
    optimizer: str
    regularizer: str
    plan: dict[str, Any]

    @property
    def promoted(self) -> bool:
        """Whether any language has a new adapter."""
        return any(found["adapter"] is not None for found in self.languages.values())


def languages_of(
    selection: Selection, outcomes: dict[str, dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """The record of each language: what there was of it, and what came of it."""
    adapter_of = {language: task.name for task in selection.tasks for language in task.languages}
    languages = {}
    for name, counts in selection.counts.items():
        adapter = adapter_of.get(name)
        outcome = outcomes.get(adapter) if adapter else None
        languages[name] = {**asdict(counts), **_verdict(adapter, outcome)}
        if name in selection.too_little:
            languages[name]["reason"] = selection.too_little[name]
    return languages


def details(
    run_plan: RunPlan, task: AdapterTask, progress: Progress, common: Common | None, wall_s: float
) -> dict[str, Any]:
    """How an adapter was made, for its manifest.

    Args:
        wall_s: Seconds since the command began.
    """
    packages = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {
        "recipe": asdict(run_plan.recipe),
        "prompt": asdict(run_plan.prompt),
        "plan": {"step_s": run_plan.step_s, "expected": planner.rounded(run_plan.prediction)},
        "packages": {"flex-assist": __version__, **packages},
        "data_digest": run_plan.data,
        "pool": {name: asdict(found) for name, found in task.pool.items()},
        "without_adapter": dict(task.without),
        "common_steps": common.steps if common else 0,
        "common_losses": list(common.losses) if common else [],
        "steps": progress.step,
        "labelled_tokens": progress.tokens,
        "training_s": round(progress.seconds, 1),
        "wall_s": round(wall_s, 1),
        "losses": list(progress.losses),
        "validation": list(progress.validation),
        "recoveries": progress.recoveries,
        "peak_memory_mb": device.peak_memory_mb(torch.device(run_plan.recipe.device)),
    }


def data_records(snapshot: Snapshot, languages: Collection[str]) -> list[dict[str, Any]]:
    """What a manifest keeps of the files of ``languages``: all that its weights may have seen."""
    digests = {(d.path, d.language): d.sha256 for d in snapshot.documents()}
    return [
        {
            **asdict(verdict),
            "path": printable_path(verdict.path),
            "sha256": digests.get((verdict.path, verdict.language or "")),
        }
        for verdict in snapshot.verdicts
        if verdict.language in languages
    ]


def without_adapter(snapshot: Snapshot, languages: Collection[str]) -> list[dict[str, Any]]:
    """Records of the texts of languages that get no adapter: known, and not learnt from."""
    return [
        {
            "path": printable_path(document.path),
            "sha256": document.sha256,
            "verdict": "skip",
            "rule": "too-little",
            "value": None,
            "language": document.language,
            "licence": None,
        }
        for document in snapshot.of(languages).documents()
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
    verdict = "pooled" if adapter == SHARED else _own_verdict(outcome)
    return {
        "bits_per_byte": bits,
        "exact_match": metrics["exact_match"],
        "fim_nats_per_token": metrics["fim_nats"],
        "verdict": verdict,
        "reason": outcome["reason"],
        "adapter": f"{adapter}/{outcome['version']}" if outcome["promoted"] else None,
    }


def _own_verdict(outcome: dict[str, Any]) -> str:
    # A run that an older version began had promoted or not, and nothing else.
    return str(outcome.get("verdict", "promoted" if outcome["promoted"] else "kept-base"))


def too_little(snapshot: Snapshot, selection: Selection) -> str:
    """Why nothing can be learnt, for people."""
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
