"""A run that begins with the active version's weights: real code, the starter's first layers."""

from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file

from flex_assist.adapters.manifest import PEFT_WEIGHTS
from flex_assist.adapters.registry import Registry
from flex_assist.config import ModelSettings, Settings
from flex_assist.locations import locate, repository_id
from flex_trainer import plan
from flex_trainer.adapt import AdaptOptions, adapt
from flex_trainer.checkpoint import STATE_FILE
from flex_trainer.events import Event
from flex_trainer.recipe import Recipe
from flex_trainer.stage import Interrupted

STEPS = 3


def run(
    repository: Path, base: Path, *, rate: float = 0.0, stop_at_step: int = 0, **options: bool
) -> list[Event]:
    """A run; with ``stop_at_step`` it is interrupted after that one."""
    told: list[Event] = []
    training = replace(Settings().training, steps=STEPS, threads=2, learning_rate=rate)
    settings = replace(Settings(), training=training, model=ModelSettings(base=str(base)))

    def stop() -> bool:
        return bool(stop_at_step) and any(e.step == stop_at_step and e.loss for e in told)

    try:
        wanted = AdaptOptions(root=repository, budget_s=25.0, **options)
        adapt(wanted, settings, locate(), told.append, stop)
    except Interrupted:
        assert stop_at_step
    return told


def trained(repository: Path) -> dict[str, torch.Tensor]:
    """B, as the newest checkpoint holds it, by the names of PEFT's file."""
    folder = locate().training(repository_id(repository)) / "python"
    state = load_file(sorted(folder.glob("step-*"))[-1] / STATE_FILE)
    return {
        name.removeprefix("weight.").replace(".default.", "."): tensor
        for name, tensor in state.items()
        if name.startswith("weight.") and ".lora_B." in name
    }


def difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Of the second from the first, as a share of the first."""
    length = sum(float(tensor.square().sum()) for tensor in one.values())
    apart = sum(float((one[name] - other[name]).square().sum()) for name in one)
    return (apart / length) ** 0.5


def test_a_run_begins_where_the_active_version_was_trained_to(tmp_path, copy_core, shallow_starter):
    repository = copy_core(tmp_path / "core")
    registry = Registry(locate(), repository)
    run(repository, shallow_starter)
    (first,) = registry.versions("python")
    assert first.manifest.parent is None
    registry.activate("python", first.manifest.version)
    exported = load_file(first.folder / PEFT_WEIGHTS)
    reached = {n: t / Recipe().shrink for n, t in exported.items() if ".lora_B." in n}

    # One trained file changes, another goes.
    seen = [one for one in first.manifest.data if one["verdict"] == "train"]
    changed, gone = seen[0], seen[1]
    with (repository / changed["path"]).open("a") as file:
        file.write("\n\nNEW_NAME = 'a line that nobody has seen'\n")
    (repository / gone["path"]).unlink()

    told = run(repository, shallow_starter, from_active=True, rate=1e-9, stop_at_step=1)
    assert any(first.manifest.version in (event.note or "") for event in told)
    after_a_step = trained(repository)
    # A step is so small here that it cannot have made it.
    assert difference(reached, after_a_step) < 0.01
    shrunk = {name: tensor * Recipe().shrink for name, tensor in reached.items()}
    assert difference(shrunk, after_a_step) > 0.4
    folder = locate().training(repository_id(repository))
    assert plan.load_asked(folder).from_active

    # Resuming remembers it, also when another version is active by now.
    registry.deactivate("python")
    told = run(repository, shallow_starter, resume=True)
    assert [e.step for e in told if e.phase == "train" and e.step] == [2, 3]
    second = registry.versions("python")[-1].manifest
    assert second.parent == first.manifest.version
    inherited = {(e["path"], e["sha256"]) for e in second.data if e["verdict"] == "inherited"}
    assert inherited >= {(one["path"], one["sha256"]) for one in (changed, gone)}
    known = {e["sha256"] for e in second.data if e["verdict"] in ("train", "inherited")}
    assert known >= {one["sha256"] for one in seen}
