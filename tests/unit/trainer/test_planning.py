"""Budgets, shares, schedules and checkpoints."""

import json

import pytest
import torch

from flex_assist.config import PromptSettings
from flex_assist.errors import ConfigError, DataError
from flex_trainer import checkpoint, plan, schedule
from flex_trainer.budget import Budget, parse_seconds
from flex_trainer.checkpoint import Progress
from flex_trainer.gate import GatePlan, plan_gate
from flex_trainer.plan import RunPlan, share_steps
from flex_trainer.recipe import Recipe
from flex_trainer.selection import AdapterTask


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("8m", 480), ("1h", 3600), ("45", 45), (" 1.5m ", 90)]
)
def test_reads_budgets(text, seconds):
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-5m", "5 minutes", "1d", "3s", "9" * 400, "99999h"])
def test_refuses_what_is_no_budget(text):
    with pytest.raises(ConfigError, match="budget"):
        parse_seconds(text)


def task(name: str, tokens: int) -> AdapterTask:
    return AdapterTask(name=name, languages=(name,), train=(), held_out=(), tokens=tokens)


def test_steps_fit_the_time_and_follow_the_data():
    tasks = [task("python", 200_000), task("go", 50_000)]
    steps = share_steps(tasks, 600.0, 2.0, Recipe(), epochs=3)
    assert sum(steps.values()) <= 300
    assert sum(steps.values()) >= 295
    assert steps["python"] == pytest.approx(2 * steps["go"], rel=0.05)


def test_a_small_language_leaves_its_time_to_the_others():
    tasks = [task("python", 400_000), task("go", 3_000)]
    steps = share_steps(tasks, 600.0, 2.0, Recipe(), epochs=1)
    assert steps["go"] < 10
    assert steps["python"] > 250


def test_no_adapter_goes_without_steps():
    steps = share_steps([task("a", 9000), task("b", 9000)], 1.0, 2.0, Recipe(), epochs=3)
    assert min(steps.values()) >= 4


def test_the_gate_takes_its_share_only():
    budget = Budget(seconds=480.0, started_s=0.0)
    assert budget.gate_s(1) <= 0.3 * 480
    assert 4 * budget.gate_s(4) <= 0.3 * 480


def test_more_time_measures_more():
    short, long = plan_gate(20.0, 600.0, 700), plan_gate(120.0, 600.0, 700)
    assert long.window_tokens > short.window_tokens
    assert long.spans > short.spans >= 2


def test_the_rate_rises_then_falls():
    rates = [schedule.rate(step, 100) for step in range(100)]
    peak = rates.index(max(rates))
    assert max(rates) == pytest.approx(1.0)
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] < 0.03


def run_plan() -> RunPlan:
    return RunPlan(
        data="d",
        recipe=Recipe(seed=3),
        prompt=PromptSettings(prefix_tokens=100),
        steps={"python": 7},
        gate=GatePlan(window_tokens=512, spans=4),
        step_s=1.5,
        base_sha256="b",
        languages=("python",),
        train_files=None,
        budget_s=60.0,
    )


def test_a_stored_plan_reads_back_equal(tmp_path):
    plan.save(run_plan(), tmp_path)
    assert plan.load(tmp_path) == run_plan()


def test_without_a_plan_there_is_nothing_to_resume(tmp_path):
    with pytest.raises(DataError, match="run without --resume"):
        plan.load(tmp_path)


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"data": 1}'])
def test_a_damaged_plan_says_what_to_do(tmp_path, damage):
    (tmp_path / plan.FILE_NAME).write_text(damage)
    with pytest.raises(DataError, match="run without --resume"):
        plan.load(tmp_path)


def progress(step: int) -> Progress:
    return Progress(step=step, tokens=10, seconds=1.0, strength=0.5, losses=(1.0, 0.5))


def test_the_latest_checkpoint_is_the_only_one(tmp_path):
    for step in (3, 20, 100):
        checkpoint.save(tmp_path, progress(step), {"w": torch.full((2,), float(step))})
    found = checkpoint.latest(tmp_path)
    assert found is not None
    assert found[0] == progress(100)
    assert found[1]["w"].tolist() == [100.0, 100.0]
    assert [path.name for path in tmp_path.iterdir()] == ["step-0000100"]


def test_a_half_written_checkpoint_does_not_count(tmp_path):
    checkpoint.save(tmp_path, progress(3), {"w": torch.zeros(1)})
    part = tmp_path / ".step-0000009.part"
    part.mkdir()
    (part / "progress.json").write_text("{")
    found = checkpoint.latest(tmp_path)
    assert found is not None
    assert found[0].step == 3


def test_a_damaged_checkpoint_says_what_to_do(tmp_path):
    folder = checkpoint.save(tmp_path, progress(3), {"w": torch.zeros(1)})
    (folder / "state.safetensors").write_bytes(b"\x00" * 20)
    with pytest.raises(DataError, match="run without --resume"):
        checkpoint.latest(tmp_path)


def test_progress_is_plain_json(tmp_path):
    folder = checkpoint.save(tmp_path, progress(3), {"w": torch.zeros(1)})
    assert json.loads((folder / "progress.json").read_text())["step"] == 3
