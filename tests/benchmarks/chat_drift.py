"""Does chat get worse by training on a repository, and do questions about it help?

A run learns what ``adapt`` would learn, with this share of questions or that. What is exported (the
update shrunk) is measured in nats a token: on questions about files that were held out; on the
base's own answers to general questions about programming, which tell how far the chat has moved;
and on plain text and middles of held-out files, which is what the questions cost.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from flex_trainer import startup

startup.prepare_process()

import bars  # noqa: E402
from learning import BASE, Bench, HeldOut, nats_a_token, usual_recipe  # noqa: E402

from flex_assist.chat.window import Exchange  # noqa: E402
from flex_assist.config import EngineSettings, PromptSettings, TrainingSettings  # noqa: E402
from flex_assist.engine.local import LocalEngine  # noqa: E402
from flex_assist.engine.protocol import Finished, GenerateRequest, Weights  # noqa: E402
from flex_assist.models import store  # noqa: E402
from flex_assist.repository.documents import Document  # noqa: E402
from flex_assist.repository.history import small_commits  # noqa: E402
from flex_trainer import lora, packing  # noqa: E402
from flex_trainer.corpus import PLAIN_TOKENS, Corpus, Sample  # noqa: E402
from flex_trainer.dialogues import Dialogues  # noqa: E402
from flex_trainer.instructions import Instructions  # noqa: E402
from flex_trainer.loop import Trainer  # noqa: E402
from flex_trainer.recipe import Recipe  # noqa: E402
from flex_trainer.vocabulary import Vocabulary, fim_tokens  # noqa: E402

ANSWER_TOKENS = 64
HELD_OUT_QUESTIONS = 32
QUESTIONS = (
    "What is the difference between a list and a tuple in Python?",
    "How do I reverse a string in JavaScript?",
    "What does the keyword `static` mean in Java?",
    "Explain what a race condition is.",
    "How do I read a file line by line in Go?",
    "What is a hash table, and when would I use one?",
    "Write a function that checks whether a number is prime.",
    "What does HTTP status 404 mean?",
    "How can I undo the last commit in git but keep my changes?",
    "What is the difference between a process and a thread?",
    "How do I remove duplicates from a list in Python?",
    "What is a foreign key in a database?",
    "Explain recursion with a short example.",
    "What is the time complexity of binary search?",
    "How do I parse JSON in Python?",
    "What does `const` mean in C++?",
    "How do I write a unit test?",
    "What is dependency injection?",
    "How do I sort a list of objects by a field in Java?",
    "What is the purpose of a `.gitignore` file?",
)


class Ground:
    """The base, a repository's samples and questions, and what is measured on."""

    def __init__(self, root: Path, recipe: Recipe, language: str) -> None:
        self.bench = Bench(root, recipe)
        base, engine = store.find(BASE), LocalEngine(EngineSettings())
        vocabulary = Vocabulary(engine, base.path)
        self._encode, self._fim = vocabulary.encode, fim_tokens(engine, base.path, base)
        self._dialogues = Dialogues(vocabulary.facts(), vocabulary.encode_pieces)
        snapshot = self.bench.snapshot
        self._train = [one for one in snapshot.train if one.language == language]
        self._commits = small_commits(root, {one.path for one in snapshot.train})
        held_out = [one for one in snapshot.held_out if one.language == language]
        self._held_out: HeldOut = self.bench.held_out(held_out, language)
        questions = self._instructions(held_out, 0).samples(0)
        self._questions = [
            one for one, _ in zip(questions, range(HELD_OUT_QUESTIONS), strict=False)
        ]
        answers = asyncio.run(_answers(engine, base.path, self._dialogues))
        asked = [Exchange(question=q, answer=a) for q, a in zip(QUESTIONS, answers, strict=True)]
        samples = (self._dialogues.sample(one, PLAIN_TOKENS) for one in asked)
        self._general = [_without_end(one) for one in samples if one is not None]

    def corpus(self, recipe: Recipe, share: float) -> Corpus:
        """What ``adapt`` would learn with this share of questions."""
        questions = self._instructions(self._train, recipe.seed)
        return Corpus(
            self._train, self._encode, self._fim, PromptSettings(), recipe.seed,
            instructions=questions.samples, instruction_share=share,
        )  # fmt: skip

    def is_question(self, sample: Sample) -> bool:
        """Whether it begins as a chat does."""
        start = tuple(self._dialogues.prompt(Exchange(question=""))[:8])
        return sample.tokens[: len(start)] == start

    def measured(self, recipe: Recipe) -> dict[str, float]:
        """Nats a token of everything, by the model as it is now."""
        model = self.bench.model
        return {
            "questions": nats_a_token(model, self._questions, recipe),
            "general answers": nats_a_token(model, self._general, recipe),
            "plain": nats_a_token(model, self._held_out.plain, recipe),
            "infilled": nats_a_token(model, self._held_out.infilled, recipe),
        }

    def _instructions(self, documents: Sequence[Document], seed: int) -> Instructions:
        return Instructions(
            documents, self._commits, self._dialogues, most_tokens=PLAIN_TOKENS, seed=seed
        )


def run(ground: Ground, recipe: Recipe, steps: int, share: float) -> dict[str, Any]:
    """Train a fresh adapter, and measure it."""
    batches = packing.planned_batches(ground.corpus(recipe, share).samples, steps, recipe)
    samples = [one for batch in batches for one in batch]
    asked = [one for one in samples if ground.is_question(one)]
    with lora.attached(ground.bench.model, recipe) as model:
        trainer = Trainer(model, recipe, batches)
        trainer.run(report=lambda _: None, should_stop=lambda _: False)
        trainer.masters.shrink(recipe.shrink)
        found = ground.measured(recipe)
    return {
        "share": share,
        "steps": len(batches),
        "questions_learnt": len(asked),
        "share_of_tokens": round(
            sum(len(one.tokens) for one in asked) / sum(len(one.tokens) for one in samples), 4
        ),
        "seconds": round(trainer.progress.seconds, 1),
        "nats": found,
    }


async def _answers(engine: LocalEngine, model: Path, dialogues: Dialogues) -> list[str]:
    """The base's own, the likeliest tokens."""
    found = []
    for question in QUESTIONS:
        request = GenerateRequest(
            weights=Weights(model=model),
            tokens=tuple(dialogues.prompt(Exchange(question=question))),
            max_tokens=ANSWER_TOKENS,
        )
        async for item in engine.generate(request):
            if isinstance(item, Finished):
                found.append(item.text)
    await engine.unload()
    return found


def _without_end(sample: Sample) -> Sample:
    """An answer that was cut off has no end to be learnt."""
    return Sample(tokens=sample.tokens[:-1], labels=sample.labels[:-1], weights=sample.weights[:-1])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repo", type=Path, default=bars.ROOT)
    parser.add_argument("--language", default="python")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--shares", type=float, nargs="+", default=[0.0, TrainingSettings().instruction_share]
    )
    given = parser.parse_args()
    recipe = replace(usual_recipe(), seed=given.seed)
    ground = Ground(given.repo.resolve(), recipe, given.language)
    untrained = ground.measured(recipe)
    print(untrained, file=sys.stderr, flush=True)
    runs = []
    for share in given.shares:
        runs.append(run(ground, recipe, given.steps, share))
        print(runs[-1], file=sys.stderr, flush=True)
    options = ["--steps", str(given.steps), "--seed", str(given.seed)]
    bars.write(
        "chat",
        {"command": bars.command("chat", options), "base_model": BASE, "language": given.language,
         "untrained": untrained, "runs": runs},
    )  # fmt: skip
