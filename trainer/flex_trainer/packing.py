"""Samples packed one behind the other: no padding, and no document sees another."""

import itertools
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from flex_trainer import families
from flex_trainer.corpus import UNLABELLED, Sample
from flex_trainer.recipe import Recipe

# Samples among which batches are put together: first-fit takes time with the square of it.
WINDOW = 512


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Row:
    """Documents as one row of T tokens.

    Attributes:
        ids: (1, T).
        positions: (1, T), from 0 in each document.
        labels: (1, T); a document's first token has none: it is nobody's successor.
        weights: Of the labels, (1, T).
        lengths: Tokens of each document.
        draws: Random numbers for labels to be drawn by, (1, T).
    """

    ids: Tensor
    positions: Tensor
    labels: Tensor
    weights: Tensor
    lengths: tuple[int, ...]
    draws: Tensor


def labels_of(sample: Sample) -> int:
    """Number of a sample's labels that something precedes."""
    return sum(label != UNLABELLED for label in sample.labels[1:])


def weight_of(sample: Sample) -> float:
    """Sum of the weights of those labels."""
    pairs = zip(sample.labels[1:], sample.weights[1:], strict=True)
    return sum(weight for label, weight in pairs if label != UNLABELLED)


def pack(
    samples: Sequence[Sample], device: torch.device, draws: Mapping[int, list[float]] | None = None
) -> Row:
    """One row of all samples, in their order.

    Args:
        draws: Of each sample by its ``id``; zeros where there are none.
    """
    known = draws or {}

    def row(values: list[int] | list[float], dtype: torch.dtype) -> Tensor:
        return torch.tensor([values], dtype=dtype, device=device)

    return Row(
        ids=row([token for sample in samples for token in sample.tokens], torch.long),
        positions=row([at for sample in samples for at in range(len(sample.tokens))], torch.long),
        labels=row(
            [label for sample in samples for label in (UNLABELLED, *sample.labels[1:])], torch.long
        ),
        weights=row([weight for sample in samples for weight in sample.weights], torch.float32),
        lengths=tuple(len(sample.tokens) for sample in samples),
        draws=row(
            [d for s in samples for d in known.get(id(s), [0.0] * len(s.tokens))], torch.float32
        ),
    )


def hidden_states(core: Any, row: Row) -> Tensor:
    """Last hidden states, (1, T, d), scaled so that the head makes logits of them.

    Args:
        core: The causal model, with the trainer's kernels.
    """
    hidden: Tensor = core.model(
        input_ids=row.ids, position_ids=row.positions, lengths=row.lengths
    ).last_hidden_state
    return families.scaled(core, hidden)


def batches(samples: Sequence[Sample], tokens: int, seed: str) -> list[list[Sample]]:
    """What each step sees: at most ``tokens`` tokens, in random order; every sample once.

    ``samples`` come in random order already; some at a time are put together well.
    """
    found = []
    for start in range(0, len(samples), WINDOW):
        found.extend(split(samples[start : start + WINDOW], tokens))
    random.Random(seed).shuffle(found)
    return found


def planned_batches(
    samples_of: Callable[[int], Iterable[Sample]], steps: int, recipe: Recipe
) -> list[list[Sample]]:
    """The batches of all steps, over as many passes as they need.

    Args:
        samples_of: The samples of a pass, by its number, in random order.
    """
    chosen: list[list[Sample]] = []
    for epoch in itertools.count():
        # No more samples are made than the steps need: of a large repository a pass takes minutes.
        samples, found = iter(samples_of(epoch)), list[list[Sample]]()
        while len(chosen) + len(found) < steps:
            window = list(itertools.islice(samples, WINDOW))
            if not window:
                break
            found.extend(split(window, recipe.batch_tokens))
        random.Random(f"{recipe.seed}:{epoch}").shuffle(found)
        chosen.extend(found)
        if len(chosen) >= steps or not found:
            break
    return chosen[:steps]


def split(samples: Sequence[Sample], tokens: int) -> list[list[Sample]]:
    """Groups of at most ``tokens`` tokens, as few and as even as first-fit makes them.

    A longer sample is a group of its own. Every sample is in one group.
    """
    groups: list[list[Sample]] = []
    room: list[int] = []
    for sample in sorted(samples, key=lambda one: -len(one.tokens)):
        size = len(sample.tokens)
        at = next((at for at, left in enumerate(room) if size <= left), None)
        if at is None:
            groups.append([sample])
            room.append(tokens - size)
        else:
            groups[at].append(sample)
            room[at] -= size
    return groups
