"""Memory that is really short, and memory that must not grow."""

import asyncio
import gc
import json
import platform
import subprocess
import sys
import weakref

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from flex_assist.config import EngineSettings
from flex_assist.engine.local import LocalEngine
from flex_assist.models import store
from flex_trainer import kernels, lora, memory, probe

# One long document a row: what a step keeps grows with the row, the model is small.
SCRIPT = """
import json, resource
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from flex_trainer import kernels, lora
from flex_trainer.corpus import Sample
from flex_trainer.loop import Trainer
from flex_trainer.recipe import Recipe

torch.set_num_threads(1)
torch.manual_seed(0)
config = LlamaConfig(
    vocab_size=64, hidden_size=256, intermediate_size=1024, num_hidden_layers=6,
    num_attention_heads=4, num_key_value_heads=2, use_cache=False,
)
model = LlamaForCausalLM(config).requires_grad_(False).eval()
kernels.install(model)
sample = Sample(tokens=tuple(range(64)) * 2, labels=tuple(range(64)) * 2, weights=(1.0,) * 128)
recipe = Recipe(rank=2, dtype="float32", row_tokens=5120, regularizer="none")
trainer = Trainer(lora.attach(model, 2, 0), recipe, [[sample] * 40] * 3)
trainer._gradient([sample])
trainer.masters.clear_gradients()
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + ROOM * 1_000_000
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
notes = []
trainer.run(report=lambda step: notes.extend(step.notes), should_stop=lambda _: False)
print(json.dumps({"steps": trainer.progress.step, "losses": trainer.progress.losses,
                  "notes": notes}))
"""


def run(room_mb: int) -> dict:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT.replace("ROOM", str(room_mb))],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space as Linux does")
def test_a_run_that_meets_the_limit_steps_down_and_ends_with_the_same_losses():
    free, short = run(8000), run(260)
    assert free["notes"] == []
    assert short["steps"] == 3
    assert "memory is short: rows of 2560 tokens from now on" in short["notes"]
    assert short["losses"] == pytest.approx(free["losses"], abs=1e-3)


def test_torch_speaks_of_memory_in_several_ways():
    def allocate() -> None:
        torch.empty(2**60, dtype=torch.uint8)

    with pytest.raises(memory.OutOfMemory), memory.out_of_memory_is_told():
        allocate()
    with pytest.raises(memory.OutOfMemory), memory.out_of_memory_is_told():
        bytearray(2**62)


# Rows of 500 lengths through one layer: what malloc has given out after 200 of them and at the end.
LENGTHS = """
import ctypes, json
from flex_trainer import startup
startup.prepare_process()
import torch

class Mallinfo(ctypes.Structure):
    _fields_ = [(str(at), ctypes.c_size_t) for at in range(7)] + [("used", ctypes.c_size_t)] + [
        ("free", ctypes.c_size_t), ("top", ctypes.c_size_t)]

libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Mallinfo
torch.set_num_threads(1)
weight, held = torch.randn(576, 1536).bfloat16(), []
for length in range(64, 564):
    torch.randn(length, 576).bfloat16() @ weight
    if length in (263, 563):
        held.append(libc.mallinfo2().used / 1e6)
print(json.dumps(held))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="asks glibc what it has given out")
def test_rows_of_many_lengths_hold_no_memory():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LENGTHS],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    soon, late = json.loads(done.stdout)
    assert late - soon < 20


def test_measuring_what_a_step_keeps_leaves_nothing_behind():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, use_cache=False,
    )  # fmt: skip
    model = LlamaForCausalLM(config).bfloat16().requires_grad_(False).eval()
    kernels.install(model)
    weights = [weakref.ref(parameter) for parameter in model.parameters()]
    adapted = lora.attach(model, 2, 0)
    assert memory.footprints(adapted, 0)[False].per_token > 0
    del model, adapted
    gc.collect()
    assert [one for one in weights if one() is not None] == []


def test_the_probe_leaves_the_engine_empty():
    engine, model = LocalEngine(EngineSettings()), store.find("smollm2-135m").path

    async def left() -> list[object]:
        status = await engine.status()
        await engine.close()
        return status["models"] + status["contexts"]

    found = probe.served(engine, model, token=198)
    assert found.tokens_per_s > 1
    # Two contexts of each, the base's and the adapter's, over one file.
    assert found.gate_bytes > model.stat().st_size
    assert asyncio.run(left()) == []
