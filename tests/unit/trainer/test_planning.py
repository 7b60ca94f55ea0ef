"""Budgets, shares, schedules and checkpoints."""

import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from flex_assist.config import PromptSettings, TrainingSettings
from flex_assist.errors import ConfigError, DataError
from flex_trainer import checkpoint, plan, planner, schedule
from flex_trainer.budget import Budget, parse_seconds
from flex_trainer.checkpoint import Progress
from flex_trainer.gate import GatePlan, plan_gate
from flex_trainer.gate_spans import LEAST_CASES
from flex_trainer.gate_windows import LEAST_WINDOWS, WINDOW_TOKENS
from flex_trainer.memory import Footprint
from flex_trainer.plan import Asked, RunPlan
from flex_trainer.planner import Prediction, share_steps
from flex_trainer.recipe import Recipe
from flex_trainer.selection import AdapterTask
from flex_trainer.time_limit import TimeLimit


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
    return AdapterTask(name=name, languages=(name,), train=(), tune=(), test=(), tokens=tokens)


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


def test_the_gate_ends_within_its_share_on_a_slow_machine_too():
    budget = Budget(seconds=480.0, started_s=time.monotonic())
    limit, now_s = budget.gate_limit(4), time.monotonic()
    assert limit.until_s <= limit.last_s
    assert 4 * (limit.last_s - now_s) <= 0.3 * 480
    late = Budget(seconds=480.0, started_s=time.monotonic() - 480.0).gate_limit(1)
    assert late.until_s <= time.monotonic()


@pytest.mark.parametrize("spent", [0.5, 0.95, 1.03])
def test_routes_have_time_for_the_least_and_the_command_ends_within_a_fifth(spent):
    now_s = time.monotonic()
    budget = Budget(seconds=480.0, started_s=now_s - spent * 480)
    limit = budget.routing_limit(3, now_s)
    # The gate may have taken longer than planned: without this nothing would ever be compared.
    assert limit.last_s - max(now_s, limit.until_s) > 0.015 * 480
    assert spent * 480 + 3 * (limit.last_s - now_s) < 1.2 * 480
    # Time that one language did not need goes to the others.
    assert budget.routing_limit(1, now_s).last_s > limit.last_s
    assert budget.routing_limit(1, now_s - 480).last_s <= time.monotonic()


def test_the_least_is_measured_unless_it_is_too_late_for_that():
    now_s = time.monotonic()
    past, future = now_s - 1.0, now_s + 60.0
    soon = TimeLimit(until_s=past, last_s=future)
    assert [soon.over(done, 3) for done in range(5)] == [False, False, False, True, True]
    late = TimeLimit(until_s=past, last_s=past)
    assert [late.over(done, 3) for done in range(3)] == [False, True, True]
    assert not TimeLimit(until_s=future, last_s=future).over(99, 3)


def test_little_time_is_spent_on_many_short_windows():
    short, long = plan_gate(10.0, 600.0, 700), plan_gate(600.0, 600.0, 700)
    assert short.window_length < long.window_length == WINDOW_TOKENS
    assert short.window_tokens >= LEAST_WINDOWS * short.window_length
    # Of fewer places infilling has no interval.
    assert plan_gate(1.0, 600.0, 700).spans == LEAST_CASES


def test_more_time_measures_more():
    short, long = plan_gate(20.0, 600.0, 700), plan_gate(120.0, 600.0, 700)
    assert long.window_tokens > short.window_tokens
    assert long.spans > short.spans


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
        fixed_steps=False,
        gate=GatePlan(window_tokens=512, spans=4),
        step_s=1.5,
        base_sha256="b",
        prediction=Prediction(memory_mb=1500.0, training_s=10.5, total_s=50.0),
    )


def test_a_stored_plan_reads_back_equal(tmp_path):
    plan.save(run_plan(), tmp_path)
    assert plan.load(tmp_path) == run_plan()


def test_what_was_asked_for_reads_back_equal(tmp_path):
    asked = Asked(
        languages=("python",), train_files=None, budget_s=60.0, base="b",
        training=TrainingSettings(seed=4),
    )  # fmt: skip
    plan.save_asked(asked, tmp_path)
    assert plan.load_asked(tmp_path) == asked
    assert plan.load(tmp_path) is None


def test_without_a_run_there_is_nothing_to_resume(tmp_path):
    with pytest.raises(DataError, match="run without --resume"):
        plan.load_asked(tmp_path)


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"data": 1}'])
def test_a_damaged_plan_says_what_to_do(tmp_path, damage):
    for name, read in ((plan.FILE_NAME, plan.load), (plan.ASKED_FILE, plan.load_asked)):
        (tmp_path / name).write_text(damage)
        with pytest.raises(DataError, match="run without --resume"):
            read(tmp_path)


def test_where_it_is_computed_does_not_name_the_run():
    one = run_plan()
    elsewhere = replace(one, recipe=replace(one.recipe, device="cuda", row_tokens=320))
    assert elsewhere.identity == one.identity
    for other in (
        replace(one, data="e"),
        replace(one, base_sha256="c"),
        replace(one, recipe=replace(one.recipe, seed=4)),
        replace(one, steps={"python": 8}),
    ):
        assert other.identity != one.identity


def footprints(per_token: float = 1e6) -> dict[bool, Footprint]:
    plain = Footprint(
        resident=500_000_000, state=0, update=0, per_token=per_token, working=0.0, head=0
    )
    return {False: plain, True: replace(plain, per_token=per_token / 10)}


@pytest.mark.parametrize(
    ("room_mb", "row_tokens", "checkpointing"),
    [(5000, 640, False), (945, 320, False), (810, 160, False), (630, 640, True)],
)
def test_the_planner_steps_down_until_it_fits(room_mb, row_tokens, checkpointing):
    found = planner.fit(Recipe(row_tokens=640), footprints(), 100, room_mb)
    assert found is not None
    recipe, peak_mb = found
    assert (recipe.row_tokens, recipe.checkpointing) == (row_tokens, checkpointing)
    assert peak_mb <= room_mb


def test_a_row_is_never_shorter_than_the_longest_sample():
    found = planner.fit(Recipe(row_tokens=640), footprints(), 3000, 1000)
    assert found is not None
    assert found[0].checkpointing
    assert planner.fit(Recipe(row_tokens=640), footprints(), 30_000, 1000) is None


def test_what_the_gate_takes_has_to_fit_too():
    measured = {key: replace(one, measuring=10**9) for key, one in footprints().items()}
    assert planner.fit(Recipe(row_tokens=640), measured, 100, 1600) is None
    found = planner.fit(Recipe(row_tokens=640), measured, 100, 1900)
    assert found is not None
    assert found[1] == pytest.approx(1.1 * 1500)


def test_what_never_fits_is_said():
    assert planner.fit(Recipe(row_tokens=640), footprints(), 100, 400) is None


def test_an_impossible_budget_names_the_least():
    budget = Budget(seconds=20.0, started_s=time.monotonic() - 8)
    with pytest.raises(ConfigError, match=r"20 s is too short for 3 adapters.*--budget \d+s"):
        planner.check_budget(budget, 3, 2.0, 600.0)
    planner.check_budget(replace(budget, seconds=120.0), 3, 2.0, 600.0)


def progress(step: int) -> Progress:
    return Progress(step=step, tokens=10, seconds=1.0, strength=0.5, losses=(1.0, 0.5))


def save(folder: Path, step: int) -> Path:
    return checkpoint.save(folder, progress(step), {"w": torch.full((2,), float(step))}, "run")


def latest(folder: Path) -> tuple[int | None, list[str]]:
    """The step of the newest whole checkpoint, and what is told."""
    told: list[str] = []
    found = checkpoint.latest(folder, "run", told.append)
    if found is None:
        return None, told
    assert found[0] == progress(found[0].step)
    assert found[1]["w"].tolist() == [float(found[0].step)] * 2
    return found[0].step, told


def test_the_two_newest_checkpoints_are_kept(tmp_path):
    for step in (3, 20, 100):
        save(tmp_path, step)
    assert latest(tmp_path) == (100, [])
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["step-0000020", "step-0000100"]


def test_damaged_checkpoints_of_later_steps_make_room_for_new_ones(tmp_path):
    for step in (3, 4):
        (save(tmp_path, step) / checkpoint.STATE_FILE).write_bytes(b"")
    (tmp_path / "step-zzz").mkdir()
    step, told = latest(tmp_path)
    assert step is None
    assert len(told) == 2
    for step in (1, 2):
        save(tmp_path, step)
        assert latest(tmp_path) == (step, [])


def test_a_half_written_checkpoint_does_not_count(tmp_path):
    save(tmp_path, 3)
    part = tmp_path / ".step-0000009.part"
    part.mkdir()
    (part / "progress.json").write_text("{")
    assert latest(tmp_path) == (3, [])


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["state.safetensors", "progress.json"])
@pytest.mark.parametrize(
    "damage", [cut, flip, lambda path: path.unlink(), lambda p: p.write_text("[]")]
)
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, name, damage):
    save(tmp_path, 3)
    damage(save(tmp_path, 9) / name)
    step, told = latest(tmp_path)
    assert step == 3
    assert len(told) == 1
    assert "step-0000009 is damaged" in told[0]


def test_with_all_damaged_there_is_none(tmp_path):
    for step in (3, 9):
        cut(save(tmp_path, step) / "state.safetensors")
    step, told = latest(tmp_path)
    assert step is None
    assert len(told) == 2


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    save(tmp_path, 3)
    with pytest.raises(DataError, match="another model, other data or another recipe"):
        checkpoint.latest(tmp_path, "other", print)


def test_adapters_made_side_by_side_take_less_time_together():
    steps = {"python": 10, "go": 10}
    budget = Budget(seconds=480.0, started_s=time.monotonic())
    alone, both = (
        planner.predict(budget, steps, 2.0, 1000.0, 600.0, lanes).total_s for lanes in (1, 2)
    )
    assert both == pytest.approx(alone / 2, abs=0.5)
