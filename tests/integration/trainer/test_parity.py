"""What PEFT computes is what llama.cpp serves; ``make bars-parity`` measures it in full."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[3]
_spec = importlib.util.spec_from_file_location(
    "parity", ROOT / "tests" / "benchmarks" / "parity.py"
)
assert _spec is not None
assert _spec.loader is not None
parity = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(parity)


def test_peft_lora_gguf_and_merged_gguf_agree():
    figures = parity.measure(steps=8, prompts=3, windows=8)
    half, served = figures["f16"], figures["served"]
    assert half["max_abs_logit_difference"] <= 0.1
    assert half["prompts_with_the_same_greedy_tokens"] == half["prompts"]
    assert abs(served["peft_nats"] - served["lora_nats"]) <= 0.01
    assert abs(served["merged_nats"] - served["lora_nats"]) <= 0.01
    # The adapter did something: otherwise the comparison would say nothing.
    assert served["lora_nats"] < served["base_nats"] - 0.02
