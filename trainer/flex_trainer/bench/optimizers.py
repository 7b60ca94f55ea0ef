"""``flex-assist bench optimizers``: Sophia against AdamW at equal training time, both tuned."""

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from flex_assist.cli.output import say
from flex_assist.config import Settings
from flex_assist.engine.local import LocalEngine
from flex_assist.errors import DataError
from flex_assist.models import store
from flex_assist.repository.documents import Document
from flex_assist.repository.snapshot import take_snapshot
from flex_trainer import base_model, device
from flex_trainer.bench import overhead, trial
from flex_trainer.bench.documents import load_average, pieces
from flex_trainer.bench.ours import sample
from flex_trainer.bench.trial import Ground, HeldOut, Trial
from flex_trainer.bench.verdict import paired, sentence
from flex_trainer.corpus import Sample
from flex_trainer.recipe import LEARNING_RATE, Recipe
from flex_trainer.recovery import DivergedError
from flex_trainer.vocabulary import Vocabulary

OPTIMIZERS = ("sophia", "adamw")
# Between two neighbours of the rates tried.
RATE_FACTOR = 2.0
# Tried beyond the highest rate while it is the best of either optimizer.
MORE_RATES = 2
TUNING_SEED = 0
WINDOW_TOKENS = 512
HELD_OUT_TOKENS = 4096
POINTS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerBench:
    """What is compared.

    Attributes:
        seconds: Of training, each run.
        rates: Learning rates that each optimizer is tried at.
        batch_tokens: 0 takes the recipe's.
        overhead_steps: Of each kind.
    """

    root: Path
    seconds: float
    seeds: int
    rates: int
    regularizer: str
    batch_tokens: int
    overhead_steps: int


def compare(options: OptimizerBench, settings: Settings) -> dict[str, Any]:
    """Tune both, run both with several seeds, and time what Sophia and the penalty cost.

    Raises:
        DataError: The repository has too little code.
    """
    ground = _ground(options, settings)
    recipes = {name: replace(ground.recipe, optimizer=name) for name in OPTIMIZERS}
    steps = {
        name: trial.steps_for(options.seconds, trial.step_seconds(ground, recipe))
        for name, recipe in recipes.items()
    }
    tuning = _tune(ground, recipes, steps, options.rates)
    chosen = {name: best_rate(tuning, name) for name in OPTIMIZERS}
    # The runs so far tell more about the time of a step than the probe did.
    steps = {name: trial.steps_for(options.seconds, mean_step(tuning, name)) for name in OPTIMIZERS}
    # Other seeds than the rates were chosen with.
    arms = [
        _run(ground, replace(recipes[name], learning_rate=chosen[name], seed=seed), steps[name])
        for seed in range(TUNING_SEED + 1, TUNING_SEED + 1 + options.seeds)
        for name in OPTIMIZERS
    ]
    found = paired(differences(arms))
    edges = [name for name in OPTIMIZERS if at_the_end(tuning, name, chosen[name])]
    return {
        "arms": [asdict(one) for one in arms],
        "tuning": [
            {key: value for key, value in asdict(one).items() if key != "curve"}
            for one in tuning
            if one.ended
        ],
        "difference": asdict(found),
        "overhead": _overhead(ground, settings, options.overhead_steps),
        "verdict": sentence(found, options.seeds, mean_seconds(arms), edges),
        "seconds": options.seconds,
        "batch_tokens": ground.recipe.batch_tokens,
        "hessian_every": ground.recipe.hessian_every,
        "regularizer": ground.recipe.regularizer,
        "base_model": store.find(settings.model.base).name,
        "held_out": {"windows": len(ground.held_out.windows), "bytes": ground.held_out.size},
        "load_average": load_average(),
        "dtype": ground.recipe.dtype,
        "device": ground.recipe.device,
    }


def rate_of(optimizer: str, at: int, count: int) -> float:
    """The ``at``-th of ``count`` rates around the recipe's, each ``RATE_FACTOR`` times the last."""
    middle = (count - 1) / 2
    return float(LEARNING_RATE[optimizer] * RATE_FACTOR ** (at - middle))


def worth_trying(tuning: Sequence[Trial], at: int, count: int) -> bool:
    """Whether both optimizers are tried at the ``at``-th rate, after those of ``tuning``."""
    if at < count or count == 1:
        return at < count
    return at < count + MORE_RATES and any(highest_is_best(tuning, name) for name in OPTIMIZERS)


def highest_is_best(tuning: Sequence[Trial], optimizer: str) -> bool:
    """Whether an optimizer may do better still at a higher rate."""
    best = best_rate(tuning, optimizer)
    return best == max(one.lr for one in tuning if one.optimizer == optimizer)


def best_rate(tuning: Sequence[Trial], optimizer: str) -> float:
    """The rate that ended lowest.

    Raises:
        DataError: No run of the optimizer came to its end.
    """
    own = [one for one in tuning if one.optimizer == optimizer and one.ended]
    if not own:
        raise DataError(f"{optimizer} blew up at every rate that was tried; try more --rates")
    return min(own, key=lambda one: one.held_out_bits_per_byte).lr


def at_the_end(tuning: Sequence[Trial], optimizer: str, rate: float) -> bool:
    """Whether the rate is the lowest or the highest of several."""
    own = [one.lr for one in tuning if one.optimizer == optimizer]
    return len(own) > 1 and rate in (min(own), max(own))


def mean_step(runs: Sequence[Trial], optimizer: str) -> float:
    """Seconds of a step over all runs of an optimizer."""
    own = [one for one in runs if one.optimizer == optimizer]
    return sum(one.seconds for one in own) / sum(one.steps for one in own)


def mean_seconds(arms: Sequence[Trial]) -> dict[str, float]:
    """Training time of each optimizer's runs."""
    return {name: mean(one.seconds for one in arms if one.optimizer == name) for name in OPTIMIZERS}


def differences(arms: Sequence[Trial]) -> list[float]:
    """Sophia's bits per byte less AdamW's, for each seed."""
    by_seed: dict[int, dict[str, float]] = {}
    for one in arms:
        by_seed.setdefault(one.seed, {})[one.optimizer] = one.held_out_bits_per_byte
    return [pair["sophia"] - pair["adamw"] for pair in by_seed.values()]


def _tune(
    ground: Ground, recipes: dict[str, Recipe], steps: dict[str, int], count: int
) -> list[Trial]:
    """A run at each rate, the optimizers in turn; some of them may blow up.

    Both get as many rates: more of them while the highest is the best of either.
    """
    found: list[Trial] = []
    for at in itertools.takewhile(lambda at: worth_trying(found, at, count), itertools.count()):
        for name in OPTIMIZERS:
            rate = rate_of(name, at, count)
            recipe = replace(recipes[name], learning_rate=rate, seed=TUNING_SEED)
            try:
                found.append(_run(ground, recipe, steps[name], points=1))
            except DivergedError as error:
                say(f"{name} at {rate:.2g}: {error}")
                found.append(trial.blown_up(recipe))
    return found


def _run(ground: Ground, recipe: Recipe, steps: int, points: int = POINTS) -> Trial:
    found = trial.run(ground, recipe, steps, points)
    say(
        f"{found.optimizer} at {found.lr:.2g}, seed {found.seed}: {found.steps} steps in "
        f"{found.seconds:.1f} s, {found.held_out_bits_per_byte:.4f} bits per byte"
    )
    return found


def _ground(options: OptimizerBench, settings: Settings) -> Ground:
    snapshot = take_snapshot(options.root, settings.mining, seed=settings.training.seed)
    if not snapshot.train or not snapshot.test:
        raise DataError(
            f"{str(options.root)!r} has too little source code to train on and to hold out; "
            "`flex-assist adapt --dry-run` shows what was found"
        )
    base = store.find(settings.model.base)
    place = device.choose_device()
    dtype = device.choose_dtype(place)
    recipe = Recipe(
        regularizer=options.regularizer,
        batch_tokens=options.batch_tokens or Recipe().batch_tokens,
        dtype=device.dtype_name(dtype),
        device=place.type,
        threads=device.use_threads(settings.training.threads),
    )
    engine = LocalEngine(settings.engine)
    vocabulary = Vocabulary(engine, base.path)
    length = min(WINDOW_TOKENS, recipe.batch_tokens)
    train = pieces((one.text for one in snapshot.train), vocabulary.encode, length)
    if not train:
        raise DataError(f"{str(options.root)!r} has too little source code to train on")
    return Ground(
        model=base_model.load_base(base.path, place, dtype),
        train=tuple(sample(ids) for ids in train),
        held_out=_held_out(snapshot.test, vocabulary, engine, base.path),
        recipe=recipe,
    )


def _held_out(
    documents: Sequence[Document], vocabulary: Vocabulary, engine: LocalEngine, base: Path
) -> HeldOut:
    chosen, size = list[Sample](), 0
    for ids in pieces((one.text for one in documents), vocabulary.encode, WINDOW_TOKENS):
        if sum(len(one.tokens) for one in chosen) >= HELD_OUT_TOKENS:
            break
        chosen.append(sample(ids))
        # The first token is not predicted, so its bytes do not count.
        size += sum(asyncio.run(engine.byte_lengths(base, ids[1:])))
    if not size:
        raise DataError("the held-out files are too short to measure on; give more code")
    return HeldOut(windows=tuple(chosen), size=size)


def _overhead(ground: Ground, settings: Settings, steps: int) -> dict[str, float]:
    second = base_model.load_base(
        store.find(settings.model.base).path,
        torch.device(ground.recipe.device),
        getattr(torch, ground.recipe.dtype),
    )
    batch = max(
        trial.planned(ground.train, 1 + len(ground.train) // 2, ground.recipe),
        key=lambda one: sum(len(sample.tokens) for sample in one),
    )
    return overhead.measure((ground.model, second), ground.recipe, batch, steps)
