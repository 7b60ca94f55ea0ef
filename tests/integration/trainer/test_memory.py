"""Memory that is really short: a process with a limit on its address space."""

import json
import subprocess
import sys

import pytest

from flex_trainer import memory

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
        import torch

        torch.empty(2**60, dtype=torch.uint8)

    with pytest.raises(memory.OutOfMemory), memory.out_of_memory_is_told():
        allocate()
    with pytest.raises(memory.OutOfMemory), memory.out_of_memory_is_told():
        bytearray(2**62)
