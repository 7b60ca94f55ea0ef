"""What the benchmarks on recipes have in common: a base, samples of a language, and their loss."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from flex_assist.config import EngineSettings, MiningSettings, PromptSettings
from flex_assist.engine.local import LocalEngine
from flex_assist.models import store
from flex_assist.repository.documents import Document
from flex_assist.repository.snapshot import Snapshot, take_snapshot
from flex_trainer import base_model, device, packing
from flex_trainer.bench import trial
from flex_trainer.corpus import ANSWER_WEIGHT, UNLABELLED, Corpus, Sample
from flex_trainer.recipe import Recipe
from flex_trainer.vocabulary import Vocabulary, fim_tokens

BASE = "smollm2-135m"
HELD_OUT_SAMPLES = 16


def usual_recipe() -> Recipe:
    """The product's, on this machine's best device."""
    place = device.choose_device()
    dtype = device.dtype_name(device.choose_dtype(place))
    return Recipe(device=place.type, dtype=dtype, threads=device.use_threads(0))


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """Samples of files that are not trained on: plain text, and answers to be filled in."""

    plain: list[Sample]
    infilled: list[Sample]


class Bench:
    """A base, and the samples that a repository gives."""

    def __init__(self, root: Path, recipe: Recipe) -> None:
        self._base = store.find(BASE)
        engine = LocalEngine(EngineSettings())
        self._vocabulary = Vocabulary(engine, self._base.path)
        self._fim = fim_tokens(engine, self._base.path, self._base)
        self.snapshot: Snapshot = take_snapshot(root, MiningSettings(), seed=0)
        place, dtype = torch.device(recipe.device), getattr(torch, recipe.dtype)
        self.model: Any = base_model.load_base(self._base.path, place, dtype)

    def corpus(self, documents: Sequence[Document], language: str) -> Corpus:
        """The samples of a language's files, as ``adapt`` makes them."""
        own = [document for document in documents if document.language == language]
        return Corpus(own, self._vocabulary.encode, self._fim, PromptSettings(), 0)

    def held_out(self, documents: Sequence[Document], language: str) -> HeldOut:
        """What to measure on."""
        samples = list(self.corpus(documents, language).samples(0))
        infilling = [one for one in samples if self._fim.prefix_id in one.tokens]
        plain = [one for one in samples if self._fim.prefix_id not in one.tokens]
        return HeldOut(
            plain=plain[:HELD_OUT_SAMPLES],
            infilled=[_answers(one) for one in infilling[:HELD_OUT_SAMPLES]],
        )


def nats_a_token(core: Any, samples: Sequence[Sample], recipe: Recipe) -> float:
    """Mean loss over all labels of the samples."""
    total = trial.nats(core, samples, recipe.row_tokens)
    return round(total / sum(packing.labels_of(one) for one in samples), 4)


def _answers(sample: Sample) -> Sample:
    """With labels for what is to be filled in, and nothing else."""
    pairs = zip(sample.labels, sample.weights, strict=True)
    labels = tuple(one if weight == ANSWER_WEIGHT else UNLABELLED for one, weight in pairs)
    return replace(sample, labels=labels, weights=(1.0,) * len(labels))
