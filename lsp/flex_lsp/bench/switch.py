"""What a completion costs more right after one with another adapter."""

import statistics
import time
from pathlib import Path

import numpy as np

from flex_assist.engine.client import HostEngine
from flex_assist.engine.protocol import GenerateRequest, Weights
from flex_assist.models.gguf_file import architecture, open_gguf, shape_of
from flex_assist.models.lora_gguf import write_updates
from flex_lsp.bench.calls import percentile

PROMPT_TOKENS, ANSWER_TOKENS, PAIRS = 256, 1, 200
RANK = 16


def write_adapters(model: Path, folder: Path) -> list[Path]:
    """Two small random adapters of a model, where no trained ones are at hand.

    What a switch costs does not depend on what they say.
    """
    return [write_adapter(model, folder / f"switch-{seed}.gguf", seed) for seed in range(2)]


def write_adapter(
    model: Path, target: Path, seed: int, *, rank: int = RANK, size: float = 0.01
) -> Path:
    """A random adapter of all attention's queries of a model."""
    random, reader = np.random.default_rng(seed), open_gguf(model)
    updates = {}
    for tensor in reader.tensors:
        if tensor.name.endswith("attn_q.weight"):
            rows, columns = shape_of(tensor)
            a = random.normal(size=(rank, columns)).astype(np.float32) / columns**0.5
            b = random.normal(size=(rows, rank)).astype(np.float32) * np.float32(size)
            updates[tensor.name] = (a, b)
    write_updates(target, architecture(reader), updates, None)
    return target


async def switch_p95_ms(
    engine: HostEngine, model: Path, adapters: list[Path]
) -> tuple[float, float]:
    """What a switch between two adapters costs, on top of the answer itself.

    The same prompt is asked of both, with its KV there, and of each adapter three times: the first
    answer comes after a switch, the third has nothing of one left. Both vary by what the machine
    does; a switch costs what the 95th percentile of the first is above that of the third.

    Returns:
        That; and the 95th percentile of answers without a switch above their median, which is what
        the machine varies by. Their sum is the 95th percentile after a switch above that median.
    """
    both = [Weights(model=model, adapters=(one,)) for one in adapters]
    for weights in both:
        for _ in range(3):
            await _asked_ms(engine, weights)
    stayed, switched = [], []
    for number in range(PAIRS):
        weights = both[number % 2]
        switched.append(await _asked_ms(engine, weights))
        await _asked_ms(engine, weights)
        stayed.append(await _asked_ms(engine, weights))
    return _p95(switched) - _p95(stayed), _p95(stayed) - statistics.median(stayed)


def _p95(times_ms: list[float]) -> float:
    found = percentile(times_ms, 95)
    assert found is not None
    return found


async def _asked_ms(engine: HostEngine, weights: Weights) -> float:
    tokens = tuple(1000 + (7919 * at) % 20000 for at in range(PROMPT_TOKENS))
    request = GenerateRequest(weights=weights, tokens=tokens, max_tokens=ANSWER_TOKENS)
    started_s = time.perf_counter()
    async for _ in engine.generate(request):
        pass
    return (time.perf_counter() - started_s) * 1000
