"""How fast this machine is, found by doing some of the work and forgetting it."""

import asyncio
import itertools
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from flex_assist.engine.local import LocalEngine
from flex_assist.engine.protocol import Weights
from flex_trainer import lora
from flex_trainer.corpus import Corpus
from flex_trainer.loop import Trainer
from flex_trainer.packing import batches
from flex_trainer.recipe import Recipe

STEPS = 4
SAMPLES = 24
MARGIN = 1.1
PROMPT_TOKENS = 256


def step_seconds(model: Any, corpus: Corpus, recipe: Recipe) -> float:
    """Seconds of a usual step. ``model`` is as before afterwards."""
    samples = list(itertools.islice(corpus.samples(0), SAMPLES))
    some = batches(samples, recipe.batch_tokens, "probe")
    some = (some * (STEPS + 1))[: STEPS + 1]
    if recipe.regularizer == "activation":
        # It needs other languages' code; the spectral one takes as long.
        recipe = replace(recipe, regularizer="spectral")
    adapted = lora.attach(model, recipe.rank, recipe.seed)
    seconds: list[float] = []
    Trainer(adapted, recipe, some).run(
        report=lambda report: seconds.append(report.tokens / report.tokens_per_s),
        should_stop=lambda _: False,
    )
    adapted.unload()
    # The best of a few: what else the machine does just now is not to decide the plan.
    usual = min(seconds[1:]) * MARGIN
    return usual * (1 + 1 / recipe.hessian_every if recipe.optimizer == "sophia" else 1)


def prompt_tokens_per_s(engine: LocalEngine, model: Path, token: int) -> float:
    """Prompt tokens a second of a model as served."""
    weights = Weights(model=model)
    asyncio.run(engine.warm(weights))
    started = time.perf_counter()
    asyncio.run(engine.score(weights, [[token] * PROMPT_TOKENS]))
    return PROMPT_TOKENS / (time.perf_counter() - started)
