"""What pieces of other files are worth to the base: its loss on held-out middles, by way to choose.

No training: the base reads the prompt that it would be served (it knows no infilling tokens, so the
text after the cursor is left out), and the loss of what stood there is compared. The paired
interval resamples files. Searching is timed beside it.
"""

import argparse
import gzip
import hashlib
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flex_trainer import startup

startup.prepare_process()

import bars  # noqa: E402
import torch  # noqa: E402
from learning import BASE, usual_recipe  # noqa: E402
from repositories import prepare  # noqa: E402

from flex_assist.config import EngineSettings, MiningSettings, PromptSettings  # noqa: E402
from flex_assist.engine.local import LocalEngine  # noqa: E402
from flex_assist.evaluate.bootstrap import ratio_difference_ci95  # noqa: E402
from flex_assist.language import by_path  # noqa: E402
from flex_assist.models import store  # noqa: E402
from flex_assist.prompt import retrieval  # noqa: E402
from flex_assist.prompt.builder import assemble, outline  # noqa: E402
from flex_assist.repository.snapshot import read_documents  # noqa: E402
from flex_trainer import base_model  # noqa: E402
from flex_trainer.bench import trial  # noqa: E402
from flex_trainer.corpus import UNLABELLED, Sample  # noqa: E402
from flex_trainer.vocabulary import Vocabulary  # noqa: E402

# Most definitions behind what is alike.
WAYS = {"words": 0, "words, then definitions": retrieval.MOST_DEFINITIONS}
REPOSITORIES = {"small": 100, "polyglot": 60}
MIDDLE_CHARACTERS = 600
REPEATS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """Of a middle: nats, and tokens."""

    nats: float
    tokens: int


class Reader:
    """The base, reading prompts; the same prompt once."""

    def __init__(self) -> None:
        self._recipe = usual_recipe()
        base = store.find(BASE)
        engine = LocalEngine(EngineSettings())
        self._encode = Vocabulary(engine, base.path).encode
        dtype = getattr(torch, self._recipe.dtype)
        self._model = base_model.load_base(base.path, torch.device(self._recipe.device), dtype)
        self._known: dict[str, Loss] = {}

    def loss(
        self,
        case: dict[str, Any],
        chunks: Sequence[retrieval.Chunk],
        settings: PromptSettings = PromptSettings(),  # noqa: B008
    ) -> Loss:
        """Of the middle of a case."""
        planned = outline(
            case["prefix"],
            case["suffix"],
            path=case["path"],
            language=by_path(case["path"]),
            chunks=chunks,
            settings=settings,
            answer=case["middle"][:MIDDLE_CHARACTERS],
        )
        prompt = assemble(planned, [self._encode(one) for one in planned.texts()], None, settings)
        key = hashlib.sha256(repr((prompt.tokens, prompt.answer_tokens)).encode()).hexdigest()
        if key not in self._known:
            asked = len(prompt.tokens) - prompt.answer_tokens
            labels = (UNLABELLED,) * asked + prompt.tokens[asked:]
            sample = Sample(tokens=prompt.tokens, labels=labels, weights=(1.0,) * len(labels))
            with torch.no_grad():
                nats = trial.nats(self._model, [sample], len(sample.tokens))
            self._known[key] = Loss(nats=nats, tokens=prompt.answer_tokens)
        return self._known[key]


def measure(name: str, count: int, arguments: argparse.Namespace, reader: Reader) -> dict[str, Any]:
    """All ways on some of a repository's cases."""
    work = arguments.work.resolve()
    train = prepare(name, arguments.data.resolve(), work)
    with gzip.open(work / "cases" / f"{name}.cases.jsonl.gz", "rt", encoding="utf-8") as file:
        cases = [json.loads(line) for line in file]
    cases = cases[:: max(1, len(cases) // count)][:count]
    documents = read_documents(train, MiningSettings())
    started = time.perf_counter()
    index = retrieval.RepositoryIndex(documents)
    megabytes = sum(len(one.text.encode()) for one in documents) / 1e6
    build_s = (time.perf_counter() - started) / megabytes
    losses: dict[str, list[Loss]] = {way: [] for way in arguments.ways}
    for number, case in enumerate(cases):
        for way in arguments.ways:
            losses[way].append(reader.loss(case, search(index, case, way)))
        print(f"{name} {number + 1}/{len(cases)}", file=sys.stderr, flush=True)
    found = {way: summary(cases, losses["words"], losses[way]) for way in arguments.ways}
    times = {way: latency(index, cases, way) for way in arguments.ways}
    return {"cases": len(cases), "megabytes": round(megabytes, 2),
            "build_s_a_megabyte": round(build_s, 2), "ways": found, "search_ms": times}  # fmt: skip


def search(index: retrieval.RepositoryIndex, case: dict[str, Any], way: str) -> list[Any]:
    """What is found for a case."""
    retrieval.MOST_DEFINITIONS = WAYS[way]
    language = by_path(case["path"])
    return index.search(
        case["prefix"], case["suffix"], path=case["path"],
        language=language.name if language else None, count=PromptSettings().retrieval_chunks,
    )  # fmt: skip


def summary(
    cases: Sequence[dict[str, Any]], before: Sequence[Loss], after: Sequence[Loss]
) -> dict[str, Any]:
    """Nats a token, and the difference to words alone with its interval over files."""
    paths = sorted({case["path"] for case in cases})
    sums = [[0.0, 0.0, 0.0] for _ in paths]
    for case, old, new in zip(cases, before, after, strict=True):
        unit = sums[paths.index(case["path"])]
        unit[0] += old.nats
        unit[1] += new.nats
        unit[2] += new.tokens
    old_nats, new_nats, tokens = zip(*sums, strict=True)
    total = sum(tokens)
    pairs = list(zip(before, after, strict=True))
    return {
        "nats_a_token": round(sum(new_nats) / total, 4),
        "difference": round((sum(new_nats) - sum(old_nats)) / total, 4),
        "ci95": [round(one, 4) for one in ratio_difference_ci95(old_nats, new_nats, tokens)],
        "better": sum(new.nats < old.nats - 0.01 for old, new in pairs),
        "worse": sum(new.nats > old.nats + 0.01 for old, new in pairs),
    }


def latency(
    index: retrieval.RepositoryIndex, cases: Sequence[dict[str, Any]], way: str
) -> dict[str, float]:
    """Milliseconds of a search, median and 95th percentile."""
    times = []
    for case in [*cases] * REPEATS:
        started = time.perf_counter()
        search(index, case, way)
        times.append((time.perf_counter() - started) * 1000)
    times.sort()
    return {
        "p50": round(times[len(times) // 2], 2),
        "p95": round(times[len(times) * 95 // 100], 2),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=bars.ROOT.parent / "shared" / "data")
    parser.add_argument("--work", type=Path, default=Path(".cache/bars"))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--repositories", nargs="+", choices=REPOSITORIES, default=[*REPOSITORIES])
    given = parser.parse_args()
    if not (given.data / "make_cases.py").is_file():
        sys.exit(f"{given.data} has no make_cases.py; give the shared data with --data")
    reads = Reader()
    found = {name: measure(name, REPOSITORIES[name], given, reads) for name in given.repositories}
    options = ["--ways", *given.ways, "--repositories", *given.repositories]
    bars.write(
        "retrieval", {"command": bars.command("retrieval", options), "base_model": BASE, **found}
    )
