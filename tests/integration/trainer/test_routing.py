"""Routes measured through llama.cpp, on a tiny model and adapters of random numbers."""

import shutil
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flex_assist.adapters.registry import AdapterVersion, Registry
from flex_assist.adapters.router import BASE, SHARED, Router
from flex_assist.config import EngineSettings
from flex_assist.engine.local import LocalEngine
from flex_assist.engine.protocol import Weights
from flex_assist.locations import locate
from flex_assist.repository.documents import Document
from flex_trainer.gate_windows import LEAST_WINDOWS, draw
from flex_trainer.routing import Judge, unseen
from flex_trainer.time_limit import TimeLimit

SEEDS = {"python": 1, SHARED: 2, "ruby": 3, "java": 4}


def document(number: int) -> Document:
    text = "".join(f"value_{number}_{at} = {at * number}\n" for at in range(40))
    return Document(
        path=f"m{number}.py", language="python", text=text, sha256=str(number), is_test=False,
        cluster=number,
    )  # fmt: skip


TUNE = [document(number) for number in range(6)]


def limit(until_s: float, last_s: float) -> TimeLimit:
    now_s = time.monotonic()
    return TimeLimit(until_s=now_s + until_s, last_s=now_s + last_s)


@pytest.fixture
async def judge(
    tmp_path: Path, tiny, promote: Callable[..., AdapterVersion]
) -> AsyncIterator[Judge]:
    registry = Registry(locate(), tmp_path)
    for name, seed in SEEDS.items():
        promote(
            registry, name,
            write=lambda path, seed=seed: shutil.copyfile(tiny.adapter(seed), path),
        )  # fmt: skip
    engine = LocalEngine(EngineSettings(threads=1, gpu_layers=0, context_tokens=256))
    yield Judge(
        engine=engine, model=tiny.base(), registry=registry,
        limit=limit(60.0, 60.0), seed=0,
    )  # fmt: skip
    await engine.close()


async def bits_per_byte(judge: Judge, model: Path) -> float:
    """Of the windows that a judge takes, by a model alone."""
    windows = await draw(
        judge.engine, judge.model, TUNE, tokens=64 * 128, seed=judge.seed, length=128
    )
    scores = await judge.engine.score(Weights(model=model), [one.tokens for one in windows])
    total = sum(float(score.sum()) for score in scores) / float(np.log(2))
    return total / sum(one.size for one in windows)


async def test_all_that_may_answer_are_measured_on_the_same_text(
    judge: Judge, tmp_path: Path, tiny
) -> None:
    route = await judge.route("python", Router(locate(), tmp_path), TUNE)
    found = {one.name: one.bits_per_byte for one in route.candidates}
    assert list(found) == [BASE, "python", SHARED, "ruby", "shared+python"]
    # Each is what a model with just these updates in its weights needs; of two, their sum.
    for name, seeds in ((BASE, ()), ("python", (1,)), ("shared+python", (2, 1))):
        expected = await bits_per_byte(judge, tiny.merged(*seeds))
        assert found[name] == pytest.approx(expected, abs=2e-3)
    assert found[route.choice] <= found["python"]
    assert f"{found[route.choice]:.3f}" in route.reason
    assert (await judge.route("python", Router(locate(), tmp_path), TUNE)) == route


async def test_where_time_is_short_the_least_is_measured(judge: Judge, tmp_path: Path) -> None:
    short = replace(judge, limit=limit(-1.0, 60.0))
    route = await short.route("python", Router(locate(), tmp_path), TUNE)
    assert f"on {LEAST_WINDOWS} windows" in route.reason
    assert None not in {one.bits_per_byte for one in route.candidates}


async def test_what_cannot_be_measured_goes_by_the_plain_rule(judge: Judge, tmp_path: Path) -> None:
    router = Router(locate(), tmp_path)
    few = await judge.route("python", router, TUNE[:1])
    assert (few.choice, "too few" in few.reason) == ("python", True)
    assert {one.bits_per_byte for one in few.candidates} == {None}
    late = await replace(judge, limit=limit(-1.0, -1.0)).route("python", router, TUNE)
    assert (late.choice, "time for 1 of" in late.reason) == ("python", True)
    judge.registry.deactivate(SHARED)
    alone = await judge.route("go", router, [])
    assert (alone.choice, [one.name for one in alone.candidates]) == (BASE, [BASE])
    assert alone.reason == "no adapter was promoted for go"


def test_what_a_candidate_was_trained_on_is_not_measured_with(
    tmp_path: Path, promote: Callable[..., AdapterVersion]
) -> None:
    data = [
        {"path": "m1.py", "sha256": "1", "verdict": "train"},
        {"path": "m2.py", "sha256": "2", "verdict": "inherited"},
        {"path": "m3.py", "sha256": "3", "verdict": "held-out"},
    ]
    version = promote(Registry(locate(), tmp_path), "python", data=data)
    left = unseen(TUNE, {"python": version})
    assert [one.sha256 for one in left] == ["0", "3", "4", "5"]
