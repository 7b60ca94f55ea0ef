"""Where a run is computed, and in which form: the best way that fits into memory."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from flex_assist.config import TrainingSettings
from flex_assist.errors import MissingExtraError, ModelError
from flex_assist.models.store import BaseModel
from flex_trainer import base_model, device, memory, plan, probe
from flex_trainer.events import Event
from flex_trainer.kernels import nf4
from flex_trainer.memory import OutOfMemory
from flex_trainer.planner import ShortOfMemory
from flex_trainer.recipe import LEARNING_RATE, Recipe
from flex_trainer.selection import AdapterTask
from flex_trainer.workshop import Workshop

CPU = "cpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """A way that fits.

    Attributes:
        memory_mb: What it takes at most.
        model: The base, as the recipe wants it.
    """

    recipe: Recipe
    memory_mb: float
    model: Any


def fitting(shop: Workshop, task: AdapterTask, gate_bytes: int) -> Placement:
    """The best way that fits, tried in turn.

    Args:
        gate_bytes: What measuring an adapter will hold.

    Raises:
        ModelError: None fits.
    """
    training, sharded = shop.settings.training, shop.workers.sharded
    why = needs = ""
    for recipe in _ways(training, sharded):
        if needs:
            shop.listen(Event(phase="plan", note=f"{needs}: trying {plan.where(recipe)}"))
            memory.release()
        corpus = shop.corpus(task.train, recipe.seed)
        try:
            with memory.out_of_memory_is_told():
                model = load(shop.base, recipe)
                found, peak_mb = probe.fitting(
                    model, corpus, recipe, training.memory_mb, gate_bytes
                )
                return Placement(recipe=found, memory_mb=peak_mb, model=model)
        except ShortOfMemory as error:
            # Its texts only: what the exception holds on to would keep the model there.
            why, needs = str(error), error.needs
        except OutOfMemory:
            why = needs = f"the base model {shop.base.name!r} does not fit into memory"
        # Its memory is wanted by the next.
        model = None
    packable = nf4.available() or sharded
    hint = "" if packable else ", or install flex-assist[nf4], which holds it in 4 bits"
    raise ModelError(f"{why}{hint}")


def recipe_for(training: TrainingSettings, place: torch.device) -> Recipe:
    """The settings' recipe on a device."""
    return Recipe(
        optimizer=training.optimizer,
        regularizer=training.regularizer,
        rank=training.rank,
        learning_rate=training.learning_rate or LEARNING_RATE[training.optimizer],
        seed=training.seed,
        device=str(place),
        dtype=device.dtype_name(device.choose_dtype(place)),
        threads=device.use_threads(training.threads),
    )


def on_cpu(recipe: Recipe, training: TrainingSettings) -> Recipe:
    """The same on the CPU."""
    dtype = recipe_for(training, torch.device(CPU)).dtype
    return replace(recipe, device=CPU, dtype=dtype, nf4=False)


def load(base: BaseModel, recipe: Recipe) -> Any:
    """The base model as a recipe wants it.

    Raises:
        MissingExtraError: In 4 bits, without the package for it.
    """
    if recipe.nf4 and not nf4.available():
        raise MissingExtraError("this run's base in 4 bits", "nf4")
    dtype, place = getattr(torch, recipe.dtype), torch.device(recipe.device)
    return base_model.load_base(base.path, place, dtype, nf4=recipe.nf4)


def _ways(training: TrainingSettings, sharded: bool) -> Iterator[Recipe]:
    """The device, then the same with a base in 4 bits, then the CPU."""
    packed = nf4.available() and not sharded
    for place in dict.fromkeys((device.choose_device(), torch.device(CPU))):
        recipe = recipe_for(training, place)
        yield recipe
        if packed:
            yield replace(recipe, nf4=True)
