"""Our side: the trainer as ``adapt`` uses it, Sophia's extra pass and the penalty included."""

from collections.abc import Sequence
from pathlib import Path

import torch

from flex_trainer import base_model, device, lora
from flex_trainer.bench.arm import UPDATE_DOCUMENTS, Arm, Measurement
from flex_trainer.bench.clock import Clock
from flex_trainer.corpus import Sample
from flex_trainer.loop import Trainer
from flex_trainer.recipe import Recipe


def measure(arm: Arm, documents: Sequence[Sequence[int]]) -> Measurement:
    """Train on the documents, some an update."""
    place = torch.device(arm.device)
    batches = [
        [sample(ids) for ids in documents[at : at + UPDATE_DOCUMENTS]]
        for at in range(0, len(documents), UPDATE_DOCUMENTS)
    ]
    # All costs are in what is counted: the penalty acts from the start, and the second update has
    # an estimate of the Hessian, as each ``hessian_every`` updates later has.
    recipe = Recipe(
        penalty_after=0.0, dtype=arm.dtype, device=arm.device, threads=device.use_threads(0)
    )
    model = base_model.load_base(Path(arm.base), place, getattr(torch, arm.dtype))
    adapted = lora.attach_as(model, recipe)
    clock = Clock(place)
    Trainer(adapted, recipe, batches).run(
        report=lambda _: clock.mark(), should_stop=lambda _: False
    )
    tokens = [sum(len(one.tokens) for one in batch) for batch in batches]
    return clock.measured(tokens, adapted)


def sample(ids: Sequence[int]) -> Sample:
    """Plain text: every token but the first is learnt."""
    tokens = tuple(ids)
    return Sample(tokens=tokens, labels=tokens, weights=(1.0,) * len(tokens))
