"""A, B, and A again: A then says what a fresh context says that computes the same batches.

Two languages, each with a document and an adapter of its own, on one pool, as the engine host has
it; between two rounds somebody types, or goes back. ``make bars-switch``.
"""

import argparse
import random
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import bars
import replay
import soak

from flex_assist.config import EngineSettings
from flex_assist.engine.interrupt import Interrupt
from flex_assist.engine.llama import Model
from flex_assist.engine.pool import Pool
from flex_assist.engine.protocol import Finished, GenerateRequest, Weights
from flex_assist.locations import locate
from flex_assist.models import store
from flex_lsp.bench.switch import write_adapter

LANGUAGES: Final = ("python", "typescript")
CONTEXT_TOKENS, ANSWER_TOKENS, FIRST_TOKENS, MOST_TOKENS = 512, 16, 96, 320
# Of the adapters, of random numbers: enough to change nearly all that is said.
UPDATE_SIZE: Final = 0.4
SETTINGS: Final = EngineSettings(threads=2, context_tokens=CONTEXT_TOKENS)


def documents(model: Path) -> dict[str, list[int]]:
    """A text of this project's in each language, in tokens."""
    texts = dict(reversed(soak.sources()))
    encoder = Model.load(model, vocab_only=True)
    found = {name: encoder.tokenize(texts[name][:20_000]) for name in LANGUAGES}
    encoder.close()
    return found


def switch(rounds: int, model: Path, folder: Path) -> list[str]:
    """So many times A, B, A; all that they said, one after the other."""
    weights = {
        name: Weights(model=model, adapters=(
            write_adapter(model, folder / f"{name}.gguf", at, rank=soak.RANK, size=UPDATE_SIZE),
        ))
        for at, name in enumerate(LANGUAGES)
    }  # fmt: skip
    texts, at, draw = documents(model), dict.fromkeys(LANGUAGES, FIRST_TOKENS), random.Random(1)
    pool, said = Pool(SETTINGS), []

    def ask(name: str) -> Finished:
        at[name] += draw.randint(-2, 6)
        at[name] = at[name] if FIRST_TOKENS <= at[name] < MOST_TOKENS else FIRST_TOKENS
        request = GenerateRequest(
            weights=weights[name], tokens=tuple(texts[name][: at[name]]),
            max_tokens=ANSWER_TOKENS, document=name,
        )  # fmt: skip
        *_, last = pool.answer(request, 0.0, Interrupt())
        assert isinstance(last, Finished)
        return last

    for _ in range(rounds):
        said += [ask(name).text for name in (*LANGUAGES, LANGUAGES[0])]
    pool.close()
    return said


def measure(rounds: int) -> dict[str, Any]:
    """Switch, then replay every answer."""
    model = store.serving_path("smollm2-135m", locate())
    with tempfile.TemporaryDirectory(prefix="flex-switch-") as name:
        samples = Path(name) / "samples.jsonl"
        with replay.recording(samples, every=1):
            said = switch(rounds, model, Path(name))
        given = CONTEXT_TOKENS, SETTINGS.threads or 2
        found = replay.verify(samples, len(said), *given)
    agreed = found["samples"] - found["wrong"]
    return {
        "model": model.name, "rounds": rounds, "answers": len(said), "texts": len(set(said)),
        "answers_as_fresh": agreed, **found,
        "holds": {
            "answers_as_fresh": agreed == found["samples"] == len(said),
            "kv_is_kept": found["with_reuse"] >= 0.9 * len(said) - len(LANGUAGES),
            "wrong_weights_would_be_seen": found["controls_that_differ"] > 0,
            "nothing_leaks": (found["leaked_sequences"], found["contexts_left"]) == (0, 0),
        },
    }  # fmt: skip


def main() -> int:
    """Measure and write ``docs/bars/switch.json``; 1 if the bar does not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--try", dest="trial", action="store_true", help="print, write nothing")
    arguments = parser.parse_args()
    figures = {"command": bars.command("switch"), **measure(arguments.rounds)}
    return bars.finish("switch", figures, figures["holds"], store=not arguments.trial)


if __name__ == "__main__":
    sys.exit(main())
