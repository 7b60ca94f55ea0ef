"""What a run plans where memory is short: real probes and a real base; no step is trained."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flex_assist.config import ModelSettings, Settings
from flex_assist.errors import ModelError
from flex_assist.locations import locate, repository_id
from flex_trainer import plan, probe
from flex_trainer.adapt import AdaptOptions, adapt
from flex_trainer.kernels import nf4
from flex_trainer.planner import ShortOfMemory
from flex_trainer.stage import Interrupted

STARTER = "smollm2-135m"


@pytest.fixture
def repository(tmp_path, copy_core):
    """This project's core, as a repository of its own."""
    return copy_core(tmp_path / "core")


def start(
    repository: Path, notes: list[str], memory_mb: int = 0, base: Path | str = STARTER
) -> None:
    """A run that is asked to stop before its first step."""
    training = replace(Settings().training, memory_mb=memory_mb)
    adapt(
        AdaptOptions(root=repository, budget_s=240.0),
        replace(Settings(), training=training, model=ModelSettings(base=str(base))),
        locate(),
        lambda event: notes.append(event.note or ""),
        stop_asked=lambda: True,
    )


def needed_mb(text: str) -> int:
    return int(re.search(r"needs about (\d+) MB", text)[1])


def test_the_base_in_four_bits_comes_after_the_whole_one(repository):
    notes: list[str] = []
    with pytest.raises(ModelError, match=r"training.memory_mb allows 300; take a lower") as refused:
        start(repository, notes, memory_mb=300)
    told = next(note for note in notes if "the base in 4 bits" in note)
    # The whole one is gone from memory by then: it has 269 MB, the other 110.
    assert needed_mb(told) - needed_mb(str(refused.value)) > 80


def test_without_bitsandbytes_the_error_says_what_would_help(repository, monkeypatch):
    monkeypatch.setattr(nf4, "available", lambda: False)
    with pytest.raises(ModelError, match=r"install flex-assist\[nf4\]"):
        start(repository, [], memory_mb=300)


def test_a_run_that_fits_in_four_bits_only_is_planned_so(repository, monkeypatch, shallow_starter):
    fitting: Callable[..., Any] = probe.fitting

    def refuse_whole(model, corpus, recipe, *others):
        if not recipe.nf4:
            raise ShortOfMemory("too large", "nothing to be done")
        return fitting(model, corpus, recipe, *others)

    monkeypatch.setattr(probe, "fitting", refuse_whole)
    notes: list[str] = []
    with pytest.raises(Interrupted):
        start(repository, notes, base=shallow_starter)
    assert "too large: trying cpu" in "".join(notes)
    assert any("the base in 4 bits, " in note and "steps of" in note for note in notes)
    folder = locate().training(repository_id(repository))
    assert json.loads((folder / plan.FILE_NAME).read_text())["recipe"]["nf4"] is True
