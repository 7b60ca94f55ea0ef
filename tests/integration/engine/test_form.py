"""Merged or not, with real files: what answers, that it is the same, and that no KV is mixed."""

import asyncio
import dataclasses
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from flex_assist.config import EngineSettings
from flex_assist.engine.client import HostEngine
from flex_assist.engine.local import LocalEngine
from flex_assist.engine.protocol import Engine, Finished, GenerateRequest, Weights
from flex_assist.errors import ModelError
from flex_assist.locations import Locations

SETTINGS = EngineSettings(threads=1, gpu_layers=0, context_tokens=256)
PROMPT = tuple(range(40, 80))


@pytest.fixture
async def open_engine() -> AsyncIterator[Callable[..., LocalEngine]]:
    opened = []

    def make(speeds: Path | None = None, **changes: object) -> LocalEngine:
        opened.append(LocalEngine(dataclasses.replace(SETTINGS, **changes), speeds, quiet_s=0.0))
        return opened[-1]

    yield make
    for engine in opened:
        await engine.close()


@pytest.fixture
def weights(tiny) -> Weights:
    return Weights(model=tiny.base(), adapters=(tiny.adapter(1),), merged=tiny.merged(1))


async def answer(engine: Engine, weights: Weights, tokens=PROMPT) -> Finished:
    request = GenerateRequest(weights=weights, tokens=tokens, max_tokens=12)
    forms = set()
    async for item in engine.generate(request):
        forms.add(item.form)
        if isinstance(item, Finished):
            assert forms == {item.form}
            return item
    raise AssertionError("no Finished")


async def idle(engine: Engine) -> dict:
    """The status when nothing is left to do."""
    while any((status := await engine.status())["queue"].values()) or status["forms_to_measure"]:
        await asyncio.sleep(0.002)
    return status


async def test_each_form_gives_the_same_text_and_says_which(open_engine, weights: Weights) -> None:
    found = {form: await answer(open_engine(form=form), weights) for form in ("adapter", "merged")}
    assert {form: one.form for form, one in found.items()} == {form: form for form in found}
    assert found["adapter"].text == found["merged"].text
    base = await answer(open_engine(), Weights(model=weights.model))
    assert base.form == "base"
    assert base.text != found["merged"].text


async def test_a_form_is_measured_once_and_kept(open_engine, weights: Weights, tmp_path) -> None:
    path = tmp_path / "speeds.json"
    engine = open_engine(path)
    assert (await answer(engine, weights)).form == "adapter"
    (told,) = (await idle(engine))["forms"]
    assert "a usual completion takes" in told["why"]
    (kept,) = json.loads(path.read_text())["speeds"]
    assert set(kept[1]) == {"adapter", "merged"}
    # What was only measured is gone.
    assert {one["role"] for one in (await engine.status())["contexts"]} == {"completion"}
    before = path.stat().st_mtime_ns
    again = open_engine(path)
    first = await answer(again, weights)
    assert first.form == told["form"]
    await idle(again)
    assert path.stat().st_mtime_ns == before


async def test_the_faster_form_answers_and_no_kv_is_mixed(
    open_engine, weights: Weights, tmp_path
) -> None:
    path = tmp_path / "speeds.json"
    engine = open_engine(path)
    await answer(engine, weights)
    await idle(engine)
    record = json.loads(path.read_text())
    longer = (*PROMPT, 90, 91)
    texts = []
    for merged, form in ((1e6, "merged"), (1.0, "adapter"), (1e6, "merged")):
        record["speeds"][0][1] = {"adapter": [1e3, 1e3], "merged": [merged, merged]}
        path.write_text(json.dumps(record))
        other = open_engine(path)
        assert (await answer(other, weights)).form == form
        done = await answer(other, weights, longer)
        assert (done.form, done.reused_tokens) == (form, len(PROMPT))
        texts.append(done.text)
        (told,) = (await other.status())["forms"]
        assert told["form"] == form
    assert len(set(texts)) == 1


async def test_switching_within_one_engine_reuses_nothing(open_engine, weights: Weights) -> None:
    engine = open_engine(form="merged")
    await answer(engine, weights)
    unmerged = dataclasses.replace(weights, merged=None)
    done = await answer(engine, unmerged)
    assert (done.form, done.reused_tokens) == ("adapter", 0)
    back = await answer(engine, weights)
    assert (back.form, back.reused_tokens) == ("merged", len(PROMPT) - 1)


async def test_short_memory_takes_the_adapter(open_engine, weights: Weights, tiny) -> None:
    size_mb = weights.merged.stat().st_size / 1e6
    assert 0 < size_mb < 1
    engine = open_engine(memory_mb=0)
    await answer(engine, weights)
    await idle(engine)
    (told,) = (await engine.status())["forms"]
    assert "left" not in told["why"]
    padded = tiny.padded(1, 2_000_000)
    engine = open_engine(memory_mb=1)
    assert (await answer(engine, dataclasses.replace(weights, merged=padded))).form == "adapter"
    (told,) = (await idle(engine))["forms"]
    assert "needs 2 MB" in told["why"]
    assert len((await engine.status())["models"]) == 1


async def test_the_merged_files_of_two_languages_count_twice(open_engine, tiny, tmp_path) -> None:
    path = tmp_path / "speeds.json"
    both = [
        Weights(
            model=tiny.base(), adapters=(tiny.adapter(seed),), merged=tiny.padded(seed, 2_000_000)
        )
        for seed in (1, 2)
    ]
    engine = open_engine(path)
    for weights in both:
        await answer(engine, weights)
        await idle(engine)
    record = json.loads(path.read_text())
    for pair in record["speeds"]:
        pair[1] = {"adapter": [1e3, 1e3], "merged": [1e6, 1e6]}
    path.write_text(json.dumps(record))
    for memory_mb, forms in ((5, ["merged", "merged"]), (3, ["merged", "adapter"])):
        engine = open_engine(path, memory_mb=memory_mb)
        assert [(await answer(engine, weights)).form for weights in both] == forms
    told = (await engine.status())["forms"]
    assert "needs 2 MB, and 1 MB are left" in told[1]["why"]


async def test_a_damaged_merged_file_costs_nothing_but_speed(
    open_engine, weights: Weights, tmp_path
) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(weights.merged.read_bytes()[:-1000])
    engine = open_engine(form="merged")
    for broken in (cut, tmp_path / "none.gguf"):
        done = await answer(engine, dataclasses.replace(weights, merged=broken))
        assert done.form == "adapter"
    with pytest.raises(ModelError):
        await answer(engine, Weights(model=weights.model, merged=cut))
    only = await answer(engine, Weights(model=weights.model, merged=weights.merged))
    assert only.form == "merged"


async def test_a_file_that_was_replaced_is_measured_anew(
    open_engine, weights: Weights, tmp_path
) -> None:
    path, merged = tmp_path / "speeds.json", tmp_path / "merged.gguf"
    merged.write_bytes(weights.merged.read_bytes())
    own = dataclasses.replace(weights, merged=merged)
    for time_ns in (1, 2):
        os.utime(merged, ns=(time_ns, time_ns))
        engine = open_engine(path)
        await answer(engine, own)
        await idle(engine)
    assert len(json.loads(path.read_text())["speeds"]) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="processes and sockets of POSIX")
async def test_the_host_measures_forms_and_says_which_answers(
    locations: Locations, weights: Weights
) -> None:
    engine = HostEngine(locations, SETTINGS)
    try:
        first = await answer(engine, weights)
        assert first.form == "adapter"
        (told,) = (await idle(engine))["forms"]
        assert "a usual completion takes" in told["why"]
        assert json.loads(locations.speeds.read_text())["speeds"]
        second = await answer(engine, weights)
        assert (second.form, second.text) == (told["form"], first.text)
    finally:
        await engine.stop_host()
        await engine.close()
