"""Rank, alpha, learning rate, batch and replay: one changed at a time, the same tokens each.

A run learns what ``adapt`` would learn: plain text and infilling from the training files; with
``replay``, some of its samples are from Python's own library too: code that the base is likely to
have seen. What is exported, the update shrunk, is measured on held-out files of the repository,
plain text and what is infilled, and on other files of Python's library: what has been forgotten.
"""

import argparse
import functools
import itertools
import math
import random
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flex_trainer import startup

startup.prepare_process()

import bars  # noqa: E402
import torch  # noqa: E402
from learning import BASE, Bench, HeldOut, nats_a_token, usual_recipe  # noqa: E402
from torch import Tensor  # noqa: E402

from flex_assist.repository.documents import Document  # noqa: E402
from flex_trainer import fourier, lora, packing  # noqa: E402
from flex_trainer.corpus import Corpus, Sample  # noqa: E402
from flex_trainer.loop import Trainer  # noqa: E402
from flex_trainer.recipe import Recipe  # noqa: E402

VARIANTS: dict[str, tuple[Any, ...]] = {
    "rank": (8, 32),
    "alpha_per_rank": (1, 4),
    "learning_rate": (0.6e-3, 2.4e-3),
    "batch_tokens": (640, 2560),
    "regularizer": ("none", "paper", "l2", "dct"),
    "replay": (0.1, 0.2),
}
LIBRARY_FILES = 120


@functools.cache
def low_cosines(length: int) -> Tensor:
    """The orthonormal DCT-II's low quarter, (kept, length): as many as a DFT's low band has."""
    kept = int(fourier.band_weights(length, fourier.LOW_BAND).sum())
    at = math.pi / length * (torch.arange(length) + 0.5)
    rows = torch.cos(torch.arange(kept)[:, None] * at) * math.sqrt(2 / length)
    rows[0] /= math.sqrt(2)
    return rows


def dct_ratio(update: fourier.Update) -> Tensor:
    """``spectral`` with cosines: the ends of rows and columns do not wrap around."""
    a, b = update.a.float(), update.b.float().mT
    low_a, low_b = (one @ low_cosines(one.shape[-1]).T for one in (a, b))
    low = update.scale**2 * torch.sum((low_b @ low_b.mT) * (low_a @ low_a.mT), dim=(-2, -1))
    whole = fourier.energy(update)
    return (whole - low).clamp_min(0.0) / (whole + fourier.EPSILON * update.base_norm2)


fourier.MODES["dct"] = dct_ratio


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What all runs share: the base, what is learnt from, and what is measured on."""

    model: Any
    own: Corpus
    general: Corpus
    held_out: HeldOut
    forgotten: HeldOut


def prepare(root: Path, recipe: Recipe) -> Ground:
    """The Python files of a repository."""
    bench, library = Bench(root, recipe), library_files()
    return Ground(
        model=bench.model,
        own=bench.corpus(bench.snapshot.train, "python"),
        general=bench.corpus(library[::2], "python"),
        held_out=bench.held_out(bench.snapshot.test, "python"),
        forgotten=bench.held_out(library[1::2], "python"),
    )


def library_files() -> list[Document]:
    """Some of Python's own library."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    chosen = sorted(path for path in folder.glob("*.py") if path.stat().st_size < 40_000)
    return [
        Document(
            path=path.name, language="python", text=path.read_text(errors="replace"), sha256="",
            is_test=False, cluster=at,
        )
        for at, path in enumerate(chosen[:LIBRARY_FILES])
    ]  # fmt: skip


def run(ground: Ground, recipe: Recipe, tokens: int, replay: float) -> dict[str, float]:
    """Train a fresh adapter on so many tokens, and measure it, in nats a token.

    Args:
        replay: General samples for each one of the repository.
    """

    def samples(epoch: int) -> Iterator[Sample]:
        rng, general = random.Random(f"{recipe.seed}:{epoch}"), ground.general.samples(epoch)
        for one in ground.own.samples(epoch):
            if rng.random() < replay:
                yield from itertools.islice(general, 1)
            yield one

    batches = packing.planned_batches(samples, tokens // recipe.batch_tokens, recipe)
    with lora.attached(ground.model, recipe) as model:
        trainer = Trainer(model, recipe, batches)
        trainer.run(report=lambda _: None, should_stop=lambda _: False)
        trainer.masters.shrink(recipe.shrink)
        return {
            "plain": nats_a_token(ground.model, ground.held_out.plain, recipe),
            "infilled": nats_a_token(ground.model, ground.held_out.infilled, recipe),
            "general": nats_a_token(ground.model, ground.forgotten.plain, recipe),
            "seconds": round(trainer.progress.seconds, 1),
        }


def changes(keys: Sequence[str]) -> Iterator[dict[str, Any]]:
    """What each run changes; first nothing."""
    yield {}
    for key in keys:
        yield from ({key: value} for value in VARIANTS[key])


def measure(root: Path, tokens: int, seeds: int, keys: Sequence[str]) -> dict[str, Any]:
    """All runs, seed by seed, so that what the machine does falls on all alike."""
    base = usual_recipe()
    ground = prepare(root, base)
    runs: list[dict[str, Any]] = []
    for seed, change in itertools.product(range(seeds), changes(keys)):
        own = {key: value for key, value in change.items() if key != "replay"}
        recipe = replace(base, seed=seed, **own)
        found = run(ground, recipe, tokens, change.get("replay", 0.0))
        runs.append({"change": change, "seed": seed, **found})
        print(runs[-1], file=sys.stderr, flush=True)
    untrained = run(ground, base, 0, 0.0)
    return {"base_model": BASE, "tokens": tokens, "untrained": untrained, "runs": runs}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repo", type=Path, default=bars.ROOT)
    parser.add_argument("--tokens", type=int, default=48_000)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--name", default="recipe", help="of the file in docs/bars")
    given = parser.parse_args()
    found = measure(given.repo.resolve(), given.tokens, given.seeds, given.only)
    bars.write(given.name, {"command": bars.command("recipe"), **found})
