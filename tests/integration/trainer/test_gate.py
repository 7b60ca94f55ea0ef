"""The gate through llama.cpp: adapters that change nothing, or wreck the model."""

import asyncio
import json
import shutil
import tempfile
import time
from pathlib import Path

import pytest

from flex_assist.adapters.manifest import LORA_GGUF
from flex_assist.config import CompletionSettings, EngineSettings, PromptSettings, Settings
from flex_assist.engine.local import LocalEngine
from flex_assist.evaluate.metrics import edit_similarity
from flex_assist.locations import locate
from flex_assist.models.fim import FimTokens
from flex_assist.repository.documents import Document
from flex_trainer import gate_verdict
from flex_trainer.gate import Active, Candidate, Gate, GatePlan
from flex_trainer.gate_drift import LEAST_TEXTS
from flex_trainer.gate_spans import LEAST_CASES, LEAST_WRITTEN
from flex_trainer.gate_windows import LEAST_WINDOWS
from flex_trainer.measurement import Measurement
from flex_trainer.time_limit import TimeLimit

SETTINGS = Settings(
    engine=EngineSettings(threads=1, gpu_layers=0, context_tokens=1024),
    completion=CompletionSettings(max_tokens=4),
    prompt=PromptSettings(prefix_tokens=96, suffix_tokens=32, retrieval_tokens=96),
)
FIM = FimTokens(suffix_id=11, prefix_id=12, middle_id=13, end_id=0)
PLAN = GatePlan(window_tokens=1000, spans=5, window_length=100)


def document(number: int) -> Document:
    text = "".join(
        f"def step_{number}_{at}(value):\n    total = value + {at}\n    return total\n\n\n"
        for at in range(8)
    )
    return Document(
        path=f"m{number}.py", language="python", text=text, sha256=str(number), is_test=False,
        cluster=number,
    )  # fmt: skip


@pytest.fixture
def adapter(make_adapter):
    """By how much it changes the model."""
    return lambda size: make_adapter(f"of-{size}", 3, size=size, layers=1)


class SlowEngine(LocalEngine):
    """The real one on a machine that takes its time."""

    WAIT_S = 0.4

    async def score(self, weights, windows):
        await asyncio.sleep(self.WAIT_S)
        return await super().score(weights, windows)


def limit(wait_s: float, last_s: float = 3600.0) -> TimeLimit:
    now_s = time.monotonic()
    return TimeLimit(until_s=now_s + wait_s, last_s=now_s + last_s)


async def measured(
    model: Path, lora: Path, until: TimeLimit, *, active: Active | None = None, slow: bool = False
) -> Measurement:
    folder = Path(tempfile.mkdtemp(dir=lora.parent))
    shutil.copy(lora, folder / LORA_GGUF)
    engine, locations = (SlowEngine if slow else LocalEngine)(SETTINGS.engine), locate()
    gate = Gate(
        engine=engine, model=model, settings=SETTINGS,
        locations=locations, train=[document(100)], recent={("m3.py", "python")}, active=active,
    )  # fmt: skip
    held_out = [document(number) for number in range(12)]
    try:
        return await gate.measure(folder, FIM, held_out, PLAN, 0, until)
    finally:
        await engine.close()


async def test_an_adapter_that_changes_nothing_is_not_promoted(one_layer_base, adapter):
    nothing = adapter(0.0)
    active = Active(
        version="20260101T000000Z-0000", adapter=Candidate(lora=nothing, fim=FIM),
        seen=frozenset({"0", "1"}),
    )  # fmt: skip
    found = await measured(one_layer_base, nothing, limit(3600.0), active=active)
    assert found.window_tokens >= PLAN.window_tokens
    assert found.windows > LEAST_WINDOWS
    assert found.spans == PLAN.spans
    assert found.bits_per_byte.base == pytest.approx(found.bits_per_byte.adapted, rel=1e-3)
    assert found.fim_nats.base > 0
    assert not gate_verdict.judge(found).promoted
    assert 1 < found.files <= 12
    for pair, interval in (
        (found.fim_nats, found.fim_nats_ci95),
        (found.exact_match, found.exact_match_ci95),
        (found.edit_similarity, found.edit_similarity_ci95),
    ):
        low, high = interval
        assert low - 1e-3 <= pair.adapted - pair.base <= high + 1e-3
    check_arms(found)
    check_parts(found)
    check_examples(found)


def check_arms(found: Measurement) -> None:
    """The base without retrieval sees another prompt; the active version here is the adapter."""
    arms = {name: one.nats for name, one in found.arms.items()}
    assert set(arms) == {
        "base", "base + retrieval", "adapter + retrieval", "active + retrieval",
    }  # fmt: skip
    assert arms["base + retrieval"] == pytest.approx(found.fim_nats.base, abs=1e-4)
    assert arms["base"] != arms["base + retrieval"]
    assert arms["active + retrieval"] == pytest.approx(arms["adapter + retrieval"], abs=1e-3)
    assert found.arms["base + retrieval"].ci95 is None
    assert found.arms["base"].ci95 is not None


def check_parts(found: Measurement) -> None:
    """Hold-outs add up; what was forgotten is nothing; the rival is not asked what it has seen."""
    parts = found.holdouts
    assert sum(one.windows for one in parts.values()) == found.windows
    assert sum(one.files for one in parts.values()) == found.files
    assert sum(one.spans for one in parts.values()) == found.spans
    assert parts["recent"].files == 1
    assert set(found.drift) == {"code", "chat"}
    for drift in found.drift.values():
        assert drift.texts > LEAST_TEXTS
        assert abs(drift.change) < 1e-2
        assert drift.within
    assert found.active.files == found.files - 2
    assert found.active.active == pytest.approx(found.active.adapted, abs=1e-3)


def check_examples(found: Measurement) -> None:
    """They are for the report only."""
    assert sum(found.examples.all_counts.values()) == PLAN.spans
    assert len(found.examples.shown) == PLAN.spans
    for example in found.examples.shown:
        text = document(int(example.path[1:-3])).text
        assert example.before + example.wanted in text
        assert edit_similarity(example.base.text, example.wanted) == example.base.similarity
    shown = [one.base.similarity for one in found.examples.shown]
    assert sum(shown) / PLAN.spans == pytest.approx(found.edit_similarity.base, abs=1e-3)
    kept = json.dumps(found.figures())
    assert json.loads(kept)["files"] == found.files
    assert "examples" not in kept
    assert "step_" not in kept


async def test_what_the_active_version_has_not_seen_is_measured_first(one_layer_base, adapter):
    seen = frozenset(str(number) for number in range(7, 12))
    active = Active(
        version="20260101T000000Z-0000", adapter=Candidate(lora=adapter(0.0), fim=FIM), seen=seen
    )
    found = await measured(one_layer_base, adapter(30.0), limit(-1.0), active=active)
    assert found.windows == LEAST_WINDOWS
    assert (found.active.windows, found.uncompared) == (7, "")
    assert found.active.ci95[0] > 0


async def test_without_time_the_least_is_measured_and_shows_a_wrecked_adapter(
    one_layer_base, adapter
):
    found = await measured(one_layer_base, adapter(30.0), limit(-1.0))
    assert (found.windows, found.spans) == (LEAST_WINDOWS, LEAST_CASES)
    assert found.written == sum(found.examples.all_counts.values()) == LEAST_WRITTEN
    # The losses come before what is written: even here infilling is judged.
    assert found.fim_nats_ci95 is not None
    assert [one.texts for one in found.drift.values()] == [LEAST_TEXTS, LEAST_TEXTS]
    assert found.edit_similarity_ci95 is None
    assert not found.drift["code"].within
    assert not found.drift["chat"].within
    assert not gate_verdict.judge(found).promoted


async def test_on_a_slow_machine_it_ends_when_it_must_and_promotes_nothing(one_layer_base, adapter):
    found = await measured(one_layer_base, adapter(0.0), limit(1.0, 2.0), slow=True)
    # What was begun is ended, and one of each kind is measured at the least.
    assert 1 <= found.windows < LEAST_WINDOWS
    assert [one.texts for one in found.drift.values()] == [1, 1]
    assert found.spans == 1
    verdict = gate_verdict.judge(found)
    assert (verdict.promoted, verdict.clause) == (False, "windows")
