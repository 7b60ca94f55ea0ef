"""An adapter for each language: alone, with a half that all languages share, or after a common one.

Alone: rank r each. Together: of the r rows, the first half belongs to all languages and is trained
on all code, the second to one language; what is exported is the same, one adapter of rank r. After
a common one: one adapter of rank r is trained on some of each language's batches, and each language
goes on from it with the rest. All compute the same number of batches.
"""

import argparse
import itertools
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from flex_trainer import startup

startup.prepare_process()

import bars  # noqa: E402
import torch  # noqa: E402
from learning import BASE, Bench, HeldOut, nats_a_token, usual_recipe  # noqa: E402
from torch import Tensor  # noqa: E402

from flex_assist.config import TrainingSettings  # noqa: E402
from flex_trainer import curriculum, lora, packing  # noqa: E402
from flex_trainer.corpus import Sample  # noqa: E402
from flex_trainer.loop import StepReport, Trainer  # noqa: E402
from flex_trainer.recipe import Recipe  # noqa: E402

LEAST_CHARACTERS = 60_000
Batches = list[list[Sample]]
Half = dict[str, dict[str, Tensor]]


class SharedHalf:
    """Lets one trainer train several languages, whose own halves take turns in it.

    Args:
        languages: The language of each step.
    """

    def __init__(self, trainer: Trainer, languages: list[str]) -> None:
        self._trainer, self._languages = trainer, languages
        self._waiting: dict[str, Half] = {name: self._own() for name in languages}
        self._present = languages[0]

    def bring(self, language: str) -> None:
        """Put a language's half in; the one that was there waits."""
        self._waiting[self._present] = self._own()
        for name, tensors in self._tensors().items():
            for key, tensor in tensors.items():
                # A half that has never been trained has no optimizer state yet.
                kept = self._waiting[language][name].get(key)
                half(name, tensor).copy_(kept if kept is not None else torch.zeros(()))
        self._trainer.masters.publish()
        self._present = language

    def after(self, report: StepReport) -> None:
        """Make ready for the next step."""
        if report.step < report.steps:
            self.bring(self._languages[report.step])

    def _own(self) -> Half:
        return {
            name: {key: half(name, tensor).clone() for key, tensor in tensors.items()}
            for name, tensors in self._tensors().items()
        }

    def _tensors(self) -> Mapping[str, dict[str, Tensor]]:
        """Of each parameter its value and what the optimizer keeps of the same shape."""
        masters, state = self._trainer.masters, self._trainer._optimizer.state
        return {
            name: {
                "value": master.detach(),
                **{
                    key: value
                    for key, value in state.get(master, {}).items()
                    if isinstance(value, Tensor) and value.shape == master.shape
                },
            }
            for name, master in zip(masters.names, masters.masters, strict=True)
        }


def half(name: str, tensor: Tensor) -> Tensor:
    """The rows of A, the columns of B that belong to one language."""
    if ".lora_A." in name:
        return tensor[tensor.shape[0] // 2 :]
    return tensor[:, tensor.shape[1] // 2 :]


def alone(
    bench: Bench,
    recipe: Recipe,
    batches: Mapping[str, Batches],
    held_out: Mapping[str, HeldOut],
    start: Mapping[str, Tensor] | None = None,
) -> dict[str, dict[str, float]]:
    """An adapter for each language, nothing shared but the weights that all begin with, if any."""
    found = {}
    for language, own in batches.items():
        with lora.attached(bench.model, recipe) as model:
            trainer = Trainer(model, recipe, own)
            if start is not None:
                trainer.masters.load(start)
            trainer.run(report=lambda _: None, should_stop=lambda _: False)
            found[language] = measured(bench, trainer, recipe, held_out[language])
    return found


def together(
    bench: Bench, recipe: Recipe, batches: Mapping[str, Batches], held_out: Mapping[str, HeldOut]
) -> dict[str, dict[str, float]]:
    """The same batches, in random order, in one run."""
    steps = [(language, batch) for language, own in batches.items() for batch in own]
    random.Random(recipe.seed).shuffle(steps)
    found = {}
    with lora.attached(bench.model, recipe) as model:
        trainer = Trainer(model, recipe, [batch for _, batch in steps])
        shared = SharedHalf(trainer, [language for language, _ in steps])
        trainer.run(report=shared.after, should_stop=lambda _: False)
        for language in batches:
            shared.bring(language)
            kept = {name: tensor.clone() for name, tensor in trainer.masters.state().items()}
            found[language] = measured(bench, trainer, recipe, held_out[language])
            trainer.masters.load(kept)
    return found


def after_common(
    bench: Bench, recipe: Recipe, batches: Mapping[str, Batches], held_out: Mapping[str, HeldOut]
) -> dict[str, dict[str, float]]:
    """One adapter on the first batches of all languages, from which each language's goes on."""
    taught = {
        language: curriculum.divided(own, TrainingSettings().common_share)
        for language, own in batches.items()
    }
    with lora.attached(bench.model, recipe) as model:
        trainer = Trainer(model, recipe, curriculum.mixed([*taught.values()], recipe.seed))
        trainer.run(report=lambda _: None, should_stop=lambda _: False)
        start = {name: tensor.clone() for name, tensor in trainer.masters.state().items()}
    rest = {language: one.own for language, one in taught.items()}
    return alone(bench, recipe, rest, held_out, start)


def measured(bench: Bench, trainer: Trainer, recipe: Recipe, held_out: HeldOut) -> dict[str, float]:
    """Nats a token of what is exported."""
    trainer.masters.shrink(recipe.shrink)
    return {
        "plain": nats_a_token(bench.model, held_out.plain, recipe),
        "infilled": nats_a_token(bench.model, held_out.infilled, recipe),
    }


WAYS = {"alone": alone, "together": together, "after a common one": after_common}


def measure(root: Path, tokens: int, seeds: int, ways: Sequence[str]) -> dict[str, Any]:
    """All ways, seed by seed."""
    base = usual_recipe()
    bench = Bench(root, base)
    counts = dict.fromkeys(sorted({one.language for one in bench.snapshot.train}), 0)
    for one in bench.snapshot.train:
        counts[one.language] += len(one.text)
    languages = [name for name, size in counts.items() if size > LEAST_CHARACTERS]
    if len(languages) < 2:
        sys.exit(f"{root} has {len(languages)} languages with enough code; give one with several")
    held_out = {name: bench.held_out(bench.snapshot.test, name) for name in languages}
    corpora = {name: bench.corpus(bench.snapshot.train, name) for name in languages}
    runs = []
    for seed, name in itertools.product(range(seeds), ways):
        recipe = replace(base, seed=seed)
        batches = {
            language: packing.planned_batches(corpus.samples, tokens // recipe.batch_tokens, recipe)
            for language, corpus in corpora.items()
        }
        runs.append({"way": name, "seed": seed, **WAYS[name](bench, recipe, batches, held_out)})
        print(runs[-1], file=sys.stderr, flush=True)
    return {"base_model": BASE, "tokens_a_language": tokens, "runs": runs}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repo", type=Path, required=True, help="with several languages")
    parser.add_argument("--tokens", type=int, default=20_000, help="of each language")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    given = parser.parse_args()
    found = measure(given.repo.resolve(), given.tokens, given.seeds, given.ways)
    # Where the repository lies on this machine says nothing.
    options = ["--tokens", str(given.tokens), "--seeds", str(given.seeds), "--ways", *given.ways]
    bars.write("joint", {"command": bars.command("joint REPO=...", options), **found})
