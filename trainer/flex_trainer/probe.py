"""How fast this machine is, found by doing some of the work and forgetting it."""

import asyncio
import itertools
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from flex_assist.engine.local import LocalEngine
from flex_assist.engine.protocol import Weights
from flex_trainer import lora, memory, planner
from flex_trainer.corpus import Corpus
from flex_trainer.loop import Trainer
from flex_trainer.packing import batches
from flex_trainer.parallel import Workers
from flex_trainer.planner import ShortOfMemory
from flex_trainer.recipe import Recipe

STEPS = 4
SAMPLES = 24
# Samples of which the longest is looked for.
LENGTH_SAMPLES = 1000
MARGIN = 1.1
PROMPT_TOKENS = 512
CPU = torch.device("cpu")


def step_seconds(model: Any, corpus: Corpus, recipe: Recipe, workers: Workers) -> float:
    """Seconds of a usual step. ``model`` is as before afterwards."""
    samples = list(itertools.islice(corpus.samples(0), SAMPLES))
    some = batches(samples, recipe.batch_tokens, "probe")
    some = (some * (STEPS + 1))[: STEPS + 1]
    if recipe.regularizer == "activation":
        # It needs other languages' code; the spectral one takes as long.
        recipe = replace(recipe, regularizer="spectral")
    seconds: list[float] = []
    with lora.attached(model, recipe) as adapted:
        Trainer(adapted, recipe, some, workers=workers).run(
            report=lambda report: seconds.append(report.seconds),
            should_stop=lambda _: False,
        )
    # The best of a few: what else the machine does just now is not to decide the plan.
    usual = min(seconds[1:]) * MARGIN
    return usual * (1 + 1 / recipe.hessian_every if recipe.optimizer == "sophia" else 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A model as it is served.

    Attributes:
        tokens_per_s: Prompt tokens a second.
        gate_bytes: Held on the CPU while an adapter is compared with it.
    """

    tokens_per_s: float
    gate_bytes: int


def fitting(
    model: Any, corpus: Corpus, recipe: Recipe, limit_mb: float, gate_bytes: int
) -> tuple[Recipe, float]:
    """The recipe with rows that fit into the memory, and the peak that is expected, in MB.

    Args:
        limit_mb: Most memory to take; 0 takes what is free.
        gate_bytes: See ``Served``.

    Raises:
        ShortOfMemory: Nothing fits; says how much is needed.
    """
    samples = itertools.islice(corpus.samples(0), LENGTH_SAMPLES)
    longest = max((len(sample.tokens) for sample in samples), default=recipe.row_tokens)
    place = torch.device(recipe.device)
    free_mb = memory.available_mb(place)
    room_mb = limit_mb or planner.MEMORY_SHARE * free_mb
    with lora.attached(model, recipe) as adapted:
        # What it took to read the base.
        memory.release()
        found = memory.footprints(adapted, gate_bytes if place.type == "cpu" else 0)
    chosen = planner.fit(recipe, found, longest, room_mb)
    if chosen is None:
        least_mb = found[True].peak_mb(longest)
        advice = "take a lower training.rank or a smaller --base"
        if limit_mb:
            needs = f"{least_mb:.0f} MB of memory, and training.memory_mb allows {limit_mb:.0f}"
        else:
            least_mb /= planner.MEMORY_SHARE
            needs = f"{least_mb:.0f} MB of memory, and {free_mb:.0f} MB are free"
            advice = f"close other programs, {advice}"
        raise ShortOfMemory(f"training needs about {needs}", advice)
    return chosen


def served(engine: LocalEngine, model: Path, token: int) -> Served:
    """How a model does as it is served. The engine is empty afterwards."""
    found = asyncio.run(_served(engine, Weights(model=model), token))
    memory.release()
    return found


async def _served(engine: LocalEngine, weights: Weights, token: int) -> Served:
    memory.release()
    before = memory.resident_bytes(CPU)
    await engine.warm(weights)
    started = time.perf_counter()
    await engine.score(weights, [[token] * PROMPT_TOKENS])
    seconds = time.perf_counter() - started
    file = weights.model.stat().st_size
    contexts = max(0, memory.resident_bytes(CPU) - before - file)
    await engine.unload()
    # The adapter has contexts of its own, over the same file.
    return Served(tokens_per_s=PROMPT_TOKENS / seconds, gate_bytes=file + 2 * contexts)
