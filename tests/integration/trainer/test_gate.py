"""The gate through llama.cpp, with an adapter that changes nothing."""

import json
import time
from dataclasses import replace

import pytest

from flex_assist.adapters.manifest import LORA_GGUF
from flex_assist.config import CompletionSettings, EngineSettings, Settings
from flex_assist.engine.local import LocalEngine
from flex_assist.evaluate.metrics import edit_similarity
from flex_assist.locations import locate
from flex_assist.models import store
from flex_assist.models.fim import FimTokens
from flex_assist.repository.documents import Document
from flex_trainer.gate import LEAST_SPANS, LEAST_WINDOWS, Gate, GatePlan, Measurement, Pair

SETTINGS = Settings(
    engine=EngineSettings(threads=1, gpu_layers=0, context_tokens=1024),
    completion=CompletionSettings(max_tokens=4),
)
FIM = FimTokens(suffix_id=11, prefix_id=12, middle_id=13, end_id=0)
PLAN = GatePlan(window_tokens=2000, spans=5)


def document(number: int) -> Document:
    text = "".join(
        f"def step_{number}_{at}(value):\n    total = value + {at}\n    return total\n\n\n"
        for at in range(8)
    )
    return Document(
        path=f"m{number}.py", language="python", text=text, sha256=str(number), is_test=False,
        cluster=number,
    )  # fmt: skip


async def measured(folder, make_adapter, wait_s: float) -> Measurement:
    make_adapter("nothing", 0, size=0.0).rename(folder / LORA_GGUF)
    engine, locations = LocalEngine(SETTINGS.engine), locate()
    gate = Gate(
        engine=engine, model=store.serving_path("smollm2-135m", locations), settings=SETTINGS,
        locations=locations, train=[document(100)],
    )  # fmt: skip
    held_out = [document(number) for number in range(12)]
    try:
        return await gate.measure(folder, FIM, held_out, PLAN, 0, time.monotonic() + wait_s)
    finally:
        await engine.close()


async def test_an_adapter_that_changes_nothing_is_not_promoted(tmp_path, make_adapter):
    found = await measured(tmp_path, make_adapter, 3600.0)
    assert found.window_tokens >= PLAN.window_tokens
    assert found.windows > LEAST_WINDOWS
    assert found.spans == PLAN.spans
    assert found.bits_per_byte.base == pytest.approx(found.bits_per_byte.adapted, rel=1e-3)
    assert found.fim_nats.base > 0
    assert not found.helps
    assert 1 < found.files <= 12
    for pair, interval in (
        (found.fim_nats, found.fim_nats_ci95),
        (found.exact_match, found.exact_match_ci95),
        (found.edit_similarity, found.edit_similarity_ci95),
    ):
        low, high = interval
        assert low - 1e-3 <= pair.adapted - pair.base <= high + 1e-3


async def test_examples_are_for_the_report_only(tmp_path, make_adapter):
    found = await measured(tmp_path, make_adapter, 3600.0)
    assert sum(found.examples.all_counts.values()) == PLAN.spans
    assert len(found.examples.shown) == PLAN.spans
    for example in found.examples.shown:
        text = document(int(example.path[1:-3])).text
        assert example.before + example.wanted in text
        assert edit_similarity(example.base.text, example.wanted) == example.base.similarity
    shown = [one.base.similarity for one in found.examples.shown]
    assert sum(shown) / PLAN.spans == pytest.approx(found.edit_similarity.base, abs=1e-3)
    shown = [one.adapted.exact for one in found.examples.shown]
    assert sum(shown) / PLAN.spans == found.exact_match.adapted
    kept = json.dumps(found.figures())
    assert json.loads(kept)["files"] == found.files
    assert "examples" not in kept
    assert "step_" not in kept


async def test_without_time_it_measures_the_least(tmp_path, make_adapter):
    found = await measured(tmp_path, make_adapter, -1.0)
    assert (found.windows, found.spans) == (LEAST_WINDOWS, LEAST_SPANS)
    assert found.edit_similarity_ci95 is None


def test_a_few_windows_promote_nothing():
    same = Pair(base=1.0, adapted=1.0)
    enough = Measurement(
        bits_per_byte=Pair(base=1.0, adapted=0.5), ci95=(-0.6, -0.4), fim_nats=same,
        exact_match=same, edit_similarity=same, windows=LEAST_WINDOWS, window_tokens=1, spans=1,
    )  # fmt: skip
    assert enough.helps
    few = replace(enough, windows=LEAST_WINDOWS - 1)
    assert not few.helps
    assert "too few to tell" in few.reason()
