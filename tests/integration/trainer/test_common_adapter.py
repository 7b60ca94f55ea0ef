"""Several languages: a common adapter first, from which all go on; interrupted in it and after."""

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from flex_assist.config import ModelSettings, Settings
from flex_assist.locations import locate, repository_id
from flex_trainer.adapt import AdaptOptions, adapt
from flex_trainer.checkpoint import STATE_FILE
from flex_trainer.curriculum import COMMON
from flex_trainer.events import Event
from flex_trainer.plan import FILE_NAME
from flex_trainer.stage import Interrupted

STEPS = 4


def go_file(number: int) -> str:
    """Code that is like no other file's."""
    rng = random.Random(number)
    functions = []
    for _ in range(12):
        names = ["".join(rng.choices("abcdefghklmnoprstuvw", k=7)) for _ in range(5)]
        kind = rng.choice(["int", "string", "[]byte", "float64"])
        functions.append(
            f"func {names[0]}{names[1].title()}({names[2]} {kind}, {names[3]} int) int {{\n"
            f"\tfor {names[4]} := {rng.randrange(9)}; {names[4]} < {names[3]}; {names[4]}++ {{\n"
            f"\t\tif {names[3]}%{rng.randrange(2, 99)} == {rng.randrange(9)} {{\n"
            f"\t\t\treturn {names[4]} * {rng.randrange(2, 999)}\n\t\t}}\n\t}}\n"
            f"\treturn {rng.randrange(999)} - {names[3]}\n}}\n"
        )
    return f"package p{number}\n\n" + "\n".join(functions)


@pytest.fixture(scope="module")
def repository(tmp_path_factory, copy_core):
    """This project's core, and some Go."""
    root = copy_core(tmp_path_factory.mktemp("two") / "languages")
    for number in range(28):
        (root / f"p{number}.go").write_text(go_file(number))
    return root


def run(
    repository: Path, base: Path, until: Callable[[Event], bool], resume: bool = False
) -> list[Event]:
    """A run that is stopped when something has been told."""
    told: list[Event] = []
    training = replace(Settings().training, steps=STEPS, threads=2)
    with pytest.raises(Interrupted):
        adapt(
            AdaptOptions(root=repository, budget_s=300.0, resume=resume),
            replace(Settings(), training=training, model=ModelSettings(base=str(base))),
            locate(),
            told.append,
            stop_asked=lambda: bool(told) and until(told[-1]),
        )
    return told


def in_step(language: str, step: int) -> Callable[[Event], bool]:
    return lambda event: (event.language, event.step) == (language, step)


def weights(repository: Path, adapter: str) -> dict[str, torch.Tensor]:
    """What the newest checkpoint holds."""
    folder = locate().training(repository_id(repository)) / adapter
    return load_file(sorted(folder.glob("step-*"))[-1] / STATE_FILE)


def steps_of(told: list[Event], language: str) -> list[int]:
    return [event.step for event in told if event.language == language and event.step is not None]


def test_all_go_on_from_the_common_adapter_and_resuming_changes_nothing(
    repository, shallow_starter
):
    whole = run(repository, shallow_starter, in_step("python", 1))
    common, python = weights(repository, COMMON), weights(repository, "python")
    folder = locate().training(repository_id(repository))
    steps = json.loads((folder / FILE_NAME).read_text())["steps"]
    assert set(steps) == {"python", "go"}
    assert steps_of(whole, COMMON) == [1, 2, 3, 4]
    assert next(e for e in whole if e.language == "python" and e.step).steps == STEPS // 2

    run(repository, shallow_starter, in_step(COMMON, 2))
    resumed = run(repository, shallow_starter, in_step("python", 1), resume=True)
    assert steps_of(resumed, COMMON) == [3, 4]
    for expected, adapter in ((common, COMMON), (python, "python")):
        found = weights(repository, adapter)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], one) for name, one in expected.items())

    again = run(repository, shallow_starter, in_step("python", 2), resume=True)
    assert steps_of(again, COMMON) == []
    assert steps_of(again, "python") == [2]
    # One step away from where the common adapter ended, not from nothing.
    b = next(name for name in python if name.startswith("weight.") and ".lora_B." in name)
    assert (python[b] - common[b]).abs().max() < common[b].abs().max()
