"""How fast each side's engine is when it is asked for one thing, with nothing to reuse.

Builds of llama.cpp differ in what they use of the processor: a package for all machines may leave
half of it idle. The two figures tell how much of a difference is of the build.
"""

import asyncio
import statistics
from pathlib import Path

from flex_assist.engine.client import HostEngine
from flex_assist.engine.protocol import Finished, GenerateRequest, Weights
from flex_lsp.bench.server import LlamaServer

PROMPT_TOKENS, ANSWER_TOKENS, ROUNDS = 384, 24, 3
Speed = dict[str, float | None]


def _prompt(number: int) -> list[int]:
    # Another first token each time: nothing is reused.
    return [500 + number, *(1000 + (7919 * at) % 20000 for at in range(1, PROMPT_TOKENS))]


async def of_ours(engine: HostEngine, model: Path) -> Speed:
    """Tokens a second of our engine host."""
    found = []
    for number in range(ROUNDS):
        request = GenerateRequest(
            weights=Weights(model=model), tokens=tuple(_prompt(number)), max_tokens=ANSWER_TOKENS
        )
        async for item in engine.generate(request):
            if isinstance(item, Finished):
                found.append((item.prefill_ms, item.decode_ms, item.completion_tokens))
    return _speed(found)


async def of_peer(server: LlamaServer) -> Speed:
    """Tokens a second of the server, as it tells them itself."""
    found = []
    for number in range(ROUNDS):
        body = {"prompt": _prompt(number), "n_predict": ANSWER_TOKENS, "cache_prompt": False}
        answer = await asyncio.to_thread(
            server.post, "/completion", {**body, "temperature": 0.0, "ignore_eos": True}
        )
        times = answer["timings"]
        found.append((times["prompt_ms"], times["predicted_ms"], times["predicted_n"]))
    return _speed(found)


def _speed(found: list[tuple[float, float, int]]) -> Speed:
    decoded = [(ms, tokens - 1) for _, ms, tokens in found if tokens > 1 and ms > 0]
    return {
        "prefill_tokens_per_s": round(
            statistics.median(1000 * PROMPT_TOKENS / prefill for prefill, _, _ in found), 1
        ),
        "decode_tokens_per_s": round(
            statistics.median(1000 * tokens / ms for ms, tokens in decoded), 1
        )
        if decoded
        else None,
    }
