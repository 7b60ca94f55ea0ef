"""Going from document to document and from adapter to adapter, and back."""

import dataclasses
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flex_assist.config import EngineSettings
from flex_assist.engine import generation
from flex_assist.engine.context import Context
from flex_assist.engine.interrupt import Interrupt
from flex_assist.engine.llama import Model, native
from flex_assist.engine.pool import Pool
from flex_assist.engine.protocol import Finished, GenerateRequest, Priority, Weights

LAYERS, ROUNDS = 2, 100
SETTINGS = EngineSettings(threads=1, gpu_layers=0, context_tokens=512)
TEXTS = {
    "a.py": "def fibonacci(n):\n    if n < 2:\n        return n\n" * 4,
    "b.go": "func Sum(items []int) int {\n\ttotal := 0\n\tfor _, item := range items {\n" * 3,
    "c.md": "The quick brown fox jumps over the lazy dog, and then it does so again. " * 5,
}


class Replay:
    """A context of its own for each document under each weights, never used for another."""

    def __init__(self, model: Path) -> None:
        self._model = Model.load(model)
        self._contexts: dict[tuple[tuple[Path, ...], str], Context] = {}

    def answer(self, request: GenerateRequest) -> Finished:
        key = (request.weights.adapters, request.document)
        if key not in self._contexts:
            attached = [self._model.load_adapter(path) for path in request.weights.adapters]
            self._contexts[key] = Context(self._model, attached, SETTINGS.context_tokens, 1)
        return last(generation.generate(self._contexts[key], dict, request, Interrupt()))  # type: ignore[arg-type]

    def close(self) -> None:
        for context in self._contexts.values():
            context.close()
        self._model.close()


def last(items: Iterator[object]) -> Finished:
    *_, finished = items
    assert isinstance(finished, Finished)
    return finished


def ask(pool: Pool, request: GenerateRequest) -> Finished:
    return last(pool.answer(request, 0.0, Interrupt()))


@pytest.fixture
def model(cut_starter: Callable[[int], Path]) -> Path:
    return cut_starter(LAYERS)


@pytest.fixture
def weights(model: Path, make_adapter: Callable[..., Path]) -> list[Weights]:
    adapters = [make_adapter(f"switch-{seed}", seed, layers=LAYERS) for seed in (1, 2)]
    return [Weights(model=model, adapters=(adapter,)) for adapter in adapters]


def test_switching_is_as_if_nobody_else_was_there(model: Path, weights: list[Weights]) -> None:
    """100 of 100 answers are token by token those of a fresh context with the same history."""
    draw, pool, replay = random.Random(7), Pool(SETTINGS), Replay(model)
    encoder = Model.load(model, vocab_only=True)
    tokens = {name: encoder.tokenize(text) for name, text in TEXTS.items()}
    written = {(one, name): 70 for one in weights for name in TEXTS}
    told, reused, cold = set(), 0, 0
    for _ in range(ROUNDS):
        one, name = draw.choice(weights), draw.choice(list(TEXTS))
        # Some keys further, or some back.
        length = max(66, min(len(tokens[name]), written[one, name] + draw.randint(-3, 9)))
        cold += written[one, name] == 70
        written[one, name] = length
        request = GenerateRequest(
            weights=one, tokens=tuple(tokens[name][:length]), max_tokens=8, document=name
        )
        answer, expected = ask(pool, request), replay.answer(request)
        assert (answer.text, answer.reused_tokens) == (expected.text, expected.reused_tokens)
        told.add(answer.text)
        reused += answer.reused_tokens > 0
    assert len(told) > 20
    # Each document is computed whole but once under each weights.
    assert reused >= ROUNDS - 2 * len(TEXTS)
    pool.close()
    replay.close()
    encoder.close()


def test_a_document_is_kept_as_long_as_there_is_room(model: Path, weights: list[Weights]) -> None:
    encoder = Model.load(model, vocab_only=True)
    prompt = tuple(encoder.tokenize(TEXTS["a.py"]))
    encoder.close()
    request = GenerateRequest(weights=weights[0], tokens=prompt, max_tokens=1)

    def reused(pool: Pool, document: str) -> int:
        return ask(pool, dataclasses.replace(request, document=document)).reused_tokens

    pool = Pool(dataclasses.replace(SETTINGS, prefixes_mb=0))
    assert [reused(pool, name) for name in ("a", "b")] == [0, len(prompt) - 1]
    pool.close()
    # What is alike is used by another document too; what was another's own is not lost by it.
    pool = Pool(SETTINGS)
    other = dataclasses.replace(request, document="b", tokens=(*prompt[:5], *prompt[9:]))
    assert reused(pool, "a") == 0
    assert ask(pool, other).reused_tokens == 5
    assert reused(pool, "a") == len(prompt) - 1
    assert ask(pool, other).reused_tokens == len(other.tokens) - 1
    assert pool.snapshot["kept"]["documents"] == 1
    assert pool.snapshot["kept"]["size_bytes"] < 2e6
    list(pool.unload())
    assert pool.snapshot["kept"] == {"documents": 0, "size_bytes": 0}
    assert reused(pool, "a") == 0
    pool.close()


def asked_in_turn(pool: Pool, weights: list[Weights], check: Callable[[], bool]) -> None:
    """Two adapters, each twice, with one document; the second time it comes from what was kept."""
    encoder = Model.load(weights[0].model, vocab_only=True)
    prompt = tuple(encoder.tokenize(TEXTS["a.py"]))
    encoder.close()
    found = []
    for one in (*weights, *weights):
        request = GenerateRequest(weights=one, tokens=prompt, max_tokens=4, document="a.py")
        found.append(ask(pool, request))
        assert check()
    assert [one.reused_tokens for one in found] == [0, 0, len(prompt) - 1, len(prompt) - 1]
    assert found[0].text == found[2].text
    assert found[1].text == found[3].text
    pool.close()


def test_a_context_that_made_room_comes_back_with_its_prompt(weights: list[Weights]) -> None:
    pool = Pool(SETTINGS, contexts=1)
    asked_in_turn(pool, weights, lambda: len(pool.snapshot["contexts"]) == 1)


def test_what_cannot_be_restored_is_not_there(model: Path) -> None:
    loaded = Model.load(model)
    context = Context(loaded, [], 256, 1)
    context.prefill(list(range(100, 180)))
    kept = context.saved(10**9)
    assert kept is not None
    assert context.saved(10) is None
    context.restore(dataclasses.replace(kept, state=kept.state[: len(kept.state) // 2]))
    assert context.tokens == ()
    assert context.prefill(list(range(100, 180))) == 0
    context.restore(kept)
    assert context.tokens == tuple(range(100, 180))
    assert context.prefill(list(range(100, 190))) == 80
    context.close()
    loaded.close()


def test_a_restart_knows_the_last_documents(
    model: Path, weights: list[Weights], tmp_path: Path
) -> None:
    encoder = Model.load(model, vocab_only=True)
    prompts = {name: tuple(encoder.tokenize(text)) for name, text in TEXTS.items()}
    encoder.close()
    requests = [
        GenerateRequest(weights=one, tokens=prompts[name], max_tokens=8, document=name)
        for one in weights
        for name in ("a.py", "b.go")
    ]
    pool = Pool(SETTINGS, prefixes=tmp_path / "prefixes")
    first = [ask(pool, request) for request in requests]
    again = [ask(pool, request) for request in requests]
    pool.close()
    pool = Pool(SETTINGS, prefixes=tmp_path / "prefixes")
    for request, before, expected in zip(requests, first, again, strict=True):
        assert before.reused_tokens == 0
        found = ask(pool, request)
        assert (found.text, found.reused_tokens) == (expected.text, len(request.tokens) - 1)
    pool.close()
    # An adapter that was replaced by one of the same size at the same time is another one.
    a, b = (one.adapters[0] for one in weights)
    status = a.stat()
    a.write_bytes(b.read_bytes())
    os.utime(a, ns=(status.st_atime_ns, status.st_mtime_ns))
    pool = Pool(SETTINGS, prefixes=tmp_path / "prefixes")
    replaced = ask(pool, requests[0])
    assert replaced.reused_tokens == 0
    assert replaced.text == first[2].text
    pool.close()


def test_a_context_that_finds_no_memory_takes_that_of_idle_ones(
    weights: list[Weights], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU with room for one: the others go, and their prompts come back."""
    opened: list[Context] = []
    real, close = native.llama_init_from_model, Context.close

    def scarce(*given: object) -> object:
        return None if opened else real(*given)

    def keep_count(context: Context, *given: object) -> None:
        plain(context, *given)
        opened.append(context)

    def closed(context: Context) -> None:
        close(context)
        opened.remove(context)

    plain = Context.__init__
    monkeypatch.setattr(native, "llama_init_from_model", scarce)
    monkeypatch.setattr(Context, "__init__", keep_count)
    monkeypatch.setattr(Context, "close", closed)
    asked_in_turn(Pool(SETTINGS), weights, lambda: len(opened) == 1)


def test_a_chat_takes_no_place_of_a_document(model: Path) -> None:
    """It has none, and so nothing of it would ever be brought back."""
    pool = Pool(SETTINGS, contexts=1)
    tokens = tuple(range(100, 180))
    own = GenerateRequest(weights=Weights(model=model), tokens=tokens, max_tokens=1)
    ask(pool, dataclasses.replace(own, priority=Priority.CHAT))
    ask(pool, dataclasses.replace(own, document="a.py"))
    assert pool.snapshot["kept"]["documents"] == 0
    ask(pool, dataclasses.replace(own, priority=Priority.CHAT))
    assert pool.snapshot["kept"]["documents"] == 1
    pool.close()
