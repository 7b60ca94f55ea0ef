"""What a completion costs more right after one with another adapter."""

import statistics
import time
from pathlib import Path

import numpy as np

from flex_assist.engine.client import HostEngine
from flex_assist.engine.protocol import GenerateRequest, Weights
from flex_assist.models.gguf_file import open_gguf, shape_of
from flex_assist.models.lora_gguf import LoraModule, write_lora
from flex_lsp.bench.calls import percentile

PROMPT_TOKENS, ANSWER_TOKENS, PAIRS = 256, 1, 60
RANK = 16


def write_adapters(model: Path, folder: Path) -> list[Path]:
    """Two small random adapters of a model, where no trained ones are at hand.

    What a switch costs does not depend on what they say.
    """
    shapes = {one.name: shape_of(one) for one in open_gguf(model).tensors}
    found = []
    for seed in range(2):
        random = np.random.default_rng(seed)
        modules = {}
        for name in (one for one in shapes if one.endswith("attn_q.weight")):
            rows, columns = shapes[name]
            module = f"model.layers.{name.split('.')[1]}.self_attn.q_proj"
            modules[module] = LoraModule(
                module=module,
                a=random.normal(size=(RANK, columns)).astype(np.float32) / columns**0.5,
                b=random.normal(size=(rows, RANK)).astype(np.float32) * np.float32(0.01),
                scale=1.0,
            )
        path = folder / f"switch-{seed}.gguf"
        write_lora(model, path, modules)
        found.append(path)
    return found


async def switch_p95_ms(engine: HostEngine, model: Path, adapters: list[Path]) -> float:
    """95 % of the switches between two adapters cost no more than this, beside the answer itself.

    The same prompt is asked of both, with its KV there; each answer after a switch is compared with
    the median of answers without one.
    """
    both = [Weights(model=model, adapters=(one,)) for one in adapters]
    for weights in both:
        for _ in range(3):
            await _asked_ms(engine, weights)
    stayed, switched = [], []
    for number in range(PAIRS):
        weights = both[number % 2]
        switched.append(await _asked_ms(engine, weights))
        stayed.append(await _asked_ms(engine, weights))
    usual = statistics.median(stayed)
    found = percentile([one - usual for one in switched], 95)
    assert found is not None
    return found


async def _asked_ms(engine: HostEngine, weights: Weights) -> float:
    tokens = tuple(1000 + (7919 * at) % 20000 for at in range(PROMPT_TOKENS))
    request = GenerateRequest(weights=weights, tokens=tokens, max_tokens=ANSWER_TOKENS)
    started_s = time.perf_counter()
    async for _ in engine.generate(request):
        pass
    return (time.perf_counter() - started_s) * 1000
