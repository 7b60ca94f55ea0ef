"""What routing costs and gives: switching adapters, merged or not, and the table of a run.

Adapts a repository in a home of its own, or takes ``--home`` where that was done. The two forms of
an adapter are measured in a process each, so that neither's memory is counted for the other.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import bars
import psutil

from flex_assist.adapters.registry import Registry
from flex_assist.adapters.router import Router
from flex_assist.config import EngineSettings
from flex_assist.engine.local import LocalEngine
from flex_assist.engine.protocol import Finished, GenerateRequest, Weights
from flex_assist.locations import locate
from flex_assist.models import store

BASE = "smollm2-135m"
PROMPT_TOKENS, ANSWER_TOKENS, ROUNDS = 256, 32, 7
PROMPT = tuple(1000 + (7919 * at) % 20000 for at in range(PROMPT_TOKENS))


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All figures."""
    repo = Path(arguments.repo).resolve()
    if not Registry(locate(), repo).names():
        subprocess.run(
            [bars.PROGRAM, "adapt", str(repo), "--json", *arguments.adapt.split()],
            check=False, stdout=subprocess.DEVNULL,
        )  # fmt: skip
    names = Router(locate(), repo, BASE).names()
    if not names:
        raise SystemExit("no adapter was promoted: give more time, e.g. --adapt='--budget 8m'")
    told = subprocess.run(
        [bars.PROGRAM, "adapters", "route", "--repo", str(repo), "--json"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    forms = {form: child(repo, names[0], form) for form in ("base", "adapter", "merged")}
    return {
        "repository": repo.name,
        "adapters": names,
        "table": [
            {key: one[key] for key in ("language", "choice", "reason", "candidates")}
            for one in json.loads(told.stdout)["routes"]
        ],
        "prompt_tokens": PROMPT_TOKENS,
        "answer_tokens": ANSWER_TOKENS,
        "forms": forms,
        "merged_decodes_faster": ratio(forms, "decode_tokens_per_s"),
        "merged_prefills_faster": ratio(forms, "prefill_tokens_per_s"),
        "switch": asyncio.run(switching(repo, names)),
    }


def child(repo: Path, name: str, form: str) -> dict[str, float]:
    """One form of an adapter, measured in a process of its own."""
    command = [sys.executable, __file__, "--repo", str(repo), "--form", form, "--adapter", name]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))


def ratio(forms: dict[str, dict[str, float]], key: str) -> float:
    """How many times as fast the merged file is."""
    return round(forms["merged"][key] / forms["adapter"][key], 3)


def weights_of(repo: Path, name: str, form: str) -> Weights:
    """An adapter's weights, as one form of them."""
    model = store.serving_path(BASE, locate())
    if form == "base":
        return Weights(model=model)
    return Router(locate(), repo, BASE).route(None, name).weights(model)


async def speed(weights: Weights, form: str) -> dict[str, float]:
    """Tokens per second and memory of one form."""
    engine = LocalEngine(EngineSettings(form="auto" if form == "base" else form))
    before = psutil.Process().memory_info().rss
    await engine.warm(weights)
    prefill, decode = [], []
    for number in range(ROUNDS):
        # Another first token: nothing of the KV is used again.
        tokens = (500 + number, *PROMPT[1:])
        done = await answer(engine, weights, tokens, ANSWER_TOKENS)
        assert done.form == form
        prefill.append(1000 * PROMPT_TOKENS / done.prefill_ms)
        decode.append(1000 * (done.completion_tokens - 1) / done.decode_ms)
    held = psutil.Process().memory_info().rss - before
    await engine.close()
    return {
        "prefill_tokens_per_s": round(statistics.median(prefill), 1),
        "decode_tokens_per_s": round(statistics.median(decode), 1),
        "memory_mb": round(held / 1e6, 1),
    }


async def switching(repo: Path, names: list[str]) -> dict[str, Any]:
    """What a request costs more right after one to another adapter."""
    model = store.serving_path(BASE, locate())
    first = weights_of(repo, names[0], "adapter").adapters
    # With one adapter only, the other side is the base.
    second = weights_of(repo, names[1], "adapter").adapters if len(names) > 1 else ()
    sides = [Weights(model=model, adapters=adapters) for adapters in (first, second)]
    engine = LocalEngine(EngineSettings())
    for weights in sides:
        await answer(engine, weights, PROMPT, 1)
    same_ms, other_ms = [], []
    for _ in range(3 * ROUNDS):
        for weights in sides:
            other_ms.append(await timed(engine, weights))
            same_ms.append(await timed(engine, weights))
    await engine.close()
    same, other = statistics.median(same_ms), statistics.median(other_ms)
    return {
        "between": [names[0], names[1] if len(names) > 1 else "base"],
        "same_adapter_ms": round(same, 2),
        "after_another_ms": round(other, 2),
        "overhead_ms": round(other - same, 2),
    }


async def timed(engine: LocalEngine, weights: Weights) -> float:
    """Milliseconds of one token after a prompt whose KV is there."""
    started = time.perf_counter()
    done = await answer(engine, weights, PROMPT, 1)
    assert done.reused_tokens == PROMPT_TOKENS - 1
    return (time.perf_counter() - started) * 1000


async def answer(
    engine: LocalEngine, weights: Weights, tokens: tuple[int, ...], most: int
) -> Finished:
    """The end of one answer."""
    request = GenerateRequest(weights=weights, tokens=tokens, max_tokens=most)
    async for item in engine.generate(request):
        if isinstance(item, Finished):
            return item
    raise AssertionError("no Finished")


def main() -> int:
    """Measure and write ``docs/bars/route.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repo", default=str(bars.ROOT), help="the repository to adapt to")
    parser.add_argument("--adapt", default="--budget 8m", help="arguments of adapt")
    parser.add_argument("--home", help="take, or leave, the adapters in this home")
    parser.add_argument("--form", help=argparse.SUPPRESS)
    parser.add_argument("--adapter", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.form:
        weights = weights_of(Path(arguments.repo), arguments.adapter, arguments.form)
        print(json.dumps(asyncio.run(speed(weights, arguments.form))))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FLEX_ASSIST_HOME"] = arguments.home or folder
        bars.write("route", {"command": bars.command("route"), **measure(arguments)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
