"""In which order a run's adapters are trained on their batches.

With several adapters a part of each one's batches trains a common adapter first, the languages
mixed; then each goes on from it with the rest of its own. A language so learns from all of the
repository's code, in the time that it would have had alone; docs/log.md has the measurement.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from flex_assist.repository.documents import Document
from flex_trainer import early_stopping
from flex_trainer.corpus import Corpus, Sample
from flex_trainer.packing import planned_batches
from flex_trainer.plan import RunPlan
from flex_trainer.planner import TOKENS_PER_TOKEN
from flex_trainer.recipe import Recipe
from flex_trainer.selection import AdapterTask
from flex_trainer.stage import Stage, adapted
from flex_trainer.workshop import Workshop

# The name under which the common adapter is trained.
COMMON = "common"
Batch = list[Sample]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lessons:
    """The batches of one adapter, a step each.

    Attributes:
        common: For the common adapter.
        own: For the adapter itself.
        validation: Documents to look at on the way; none of the batches is from them.
    """

    common: list[Batch]
    own: list[Batch]
    validation: tuple[Document, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Common:
    """What all adapters of a run begin with.

    Attributes:
        weights: By the parameters' names.
        languages: Of the files that it has seen.
        seconds: Of training.
        losses: Of each step, nats a label.
    """

    weights: Mapping[str, Tensor]
    languages: tuple[str, ...]
    steps: int
    seconds: float
    losses: tuple[float, ...] = ()


def lessons(
    task: AdapterTask,
    recipe: Recipe,
    steps: int,
    corpus_of: Callable[[Sequence[Document], int], Corpus],
) -> Lessons:
    """What ``steps`` steps of an adapter see; the same each time."""
    of_a_pass = max(1.0, task.tokens * TOKENS_PER_TOKEN)
    passes = steps * recipe.batch_tokens / of_a_pass
    batches = planned_batches(corpus_of(task.train, recipe.seed).samples, steps, recipe)
    return divided(batches, recipe.common_share, early_stopping.validation(task.tune, passes))


def divided(
    batches: Sequence[Batch], common_share: float, validation: tuple[Document, ...] = ()
) -> Lessons:
    """The first batches for the common adapter, the rest for the adapter itself."""
    first = int(common_share * len(batches))
    return Lessons(common=[*batches[:first]], own=[*batches[first:]], validation=validation)


def mixed(found: Sequence[Lessons], seed: int) -> list[Batch]:
    """The common adapter's steps: a language each, in random order."""
    steps = [batch for one in found for batch in one.common]
    random.Random(seed).shuffle(steps)
    return steps


def train_common(
    shop: Workshop,
    base: Any,
    run_plan: RunPlan,
    batches: Sequence[Batch],
    languages: tuple[str, ...],
) -> Common:
    """Train it; nothing is exported.

    Args:
        base: The model; as before afterwards.
        languages: Of the files that ``batches`` are from.

    Raises:
        Interrupted, OutOfMemory: See ``Stage.train``.
    """
    with adapted(shop, base, run_plan.recipe) as model:
        trainer = Stage(shop, COMMON, run_plan, batches).train(model)
        weights = {name: tensor.clone() for name, tensor in trainer.masters.state().items()}
    done = trainer.progress
    return Common(
        weights=weights,
        languages=languages,
        steps=done.step,
        seconds=done.seconds,
        losses=done.losses,
    )
