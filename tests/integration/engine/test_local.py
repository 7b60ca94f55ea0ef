"""The engine in this process, on the starter model."""

import asyncio
import contextlib
import dataclasses
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest

from flex_assist.config import EngineSettings
from flex_assist.engine.context import Context
from flex_assist.engine.generation import PROMPT_STEP_TOKENS
from flex_assist.engine.llama import Model
from flex_assist.engine.local import LocalEngine
from flex_assist.engine.protocol import (
    Finished,
    GenerateRequest,
    Piece,
    Priority,
    TextPiece,
    Weights,
)
from flex_assist.errors import Cancelled, EngineError, ModelError

TEXT = "def fibonacci(n):\n    if n < 2:\n        return n\n    return fibonacci(n - 1) + "


@pytest.fixture
async def engine(settings: EngineSettings) -> AsyncIterator[LocalEngine]:
    opened = LocalEngine(settings)
    yield opened
    await opened.close()


async def collect(stream: AsyncGenerator[Piece | Finished, None]) -> None:
    async for _ in stream:
        pass


async def tokens_of(engine: LocalEngine, model: Path, text: str) -> tuple[int, ...]:
    (ids,) = await engine.tokenize(model, [TextPiece(text=text)])
    return tuple(ids)


async def answer(engine: LocalEngine, request: GenerateRequest) -> Finished:
    pieces = []
    async for item in engine.generate(request):
        if isinstance(item, Finished):
            assert "".join(pieces) == item.text
            return item
        pieces.append(item.text)
    raise AssertionError("no Finished")


def replay(model: Path, adapter: Path | None, prompts: list[tuple[int, ...]], count: int) -> str:
    """What a fresh context says to the last prompt, after the others in the engine's batches."""
    loaded = Model.load(model)
    attached = [loaded.load_adapter(adapter)] if adapter else []
    context = Context(loaded, attached, 256, 1)
    text = b""
    for prompt in prompts:
        start = context.keep_prefix(prompt)
        for at in range(start, len(prompt), PROMPT_STEP_TOKENS):
            context.extend(prompt[at : at + PROMPT_STEP_TOKENS])
        text = b""
        for number in range(count):
            token = int(np.argmax(context.logits()))
            if loaded.is_end(token):
                break
            text += loaded.token_bytes(token)
            if number < count - 1:
                context.append(token)
    context.close()
    loaded.close()
    return text.decode("utf-8", "ignore")


async def test_greedy_text_equals_a_fresh_context(engine: LocalEngine, starter: Path) -> None:
    prompt = await tokens_of(engine, starter, TEXT)
    request = GenerateRequest(weights=Weights(model=starter), tokens=prompt, max_tokens=16)
    first = await answer(engine, request)
    assert first.text == replay(starter, None, [prompt], 16)
    assert (first.reason, first.completion_tokens, first.reused_tokens) == ("length", 16, 0)
    again = await answer(engine, request)
    assert again.reused_tokens == len(prompt) - 1
    assert again.text == replay(starter, None, [prompt, prompt], 16)


async def test_switching_adapters_equals_fresh_contexts(
    engine: LocalEngine, starter: Path, adapter_a: Path, adapter_b: Path
) -> None:
    prompt = await tokens_of(engine, starter, TEXT)
    longer = prompt + await tokens_of(engine, starter, "fibonacci(n")
    asked = {
        adapter: GenerateRequest(
            weights=Weights(model=starter, adapters=(adapter,)), tokens=prompt, max_tokens=12
        )
        for adapter in (adapter_a, adapter_b)
    }
    a = await answer(engine, asked[adapter_a])
    b = await answer(engine, asked[adapter_b])
    back = await answer(engine, dataclasses.replace(asked[adapter_a], tokens=longer))
    assert a.text == replay(starter, adapter_a, [prompt], 12)
    assert b.text == replay(starter, adapter_b, [prompt], 12)
    assert a.text != b.text
    assert b.reused_tokens == 0
    assert back.reused_tokens >= len(prompt)
    assert back.text == replay(starter, adapter_a, [prompt, longer], 12)


async def test_weights_of_two_adapters_have_a_context_of_their_own(
    engine: LocalEngine, tiny
) -> None:
    a, b = tiny.adapter(1), tiny.adapter(2)
    prompt = await tokens_of(engine, tiny.base(), TEXT)
    texts = []
    for adapters in ((a,), (a, b), (b,)):
        weights = Weights(model=tiny.base(), adapters=adapters)
        done = await answer(engine, GenerateRequest(weights=weights, tokens=prompt, max_tokens=12))
        assert done.reused_tokens == 0
        texts.append(done.text)
    assert len(set(texts)) == 3
    await engine.unload()
    assert (await engine.status())["contexts"] == []


async def test_an_adapter_file_that_is_replaced_is_not_served_from_memory(
    engine: LocalEngine, starter: Path, make_adapter: Callable[..., Path]
) -> None:
    prompt = await tokens_of(engine, starter, TEXT)
    path = make_adapter("replaced", 1, size=2.0)
    request = GenerateRequest(
        weights=Weights(model=starter, adapters=(path,)), tokens=prompt, max_tokens=8
    )
    before = await answer(engine, request)
    make_adapter("replaced.new", 2, size=2.0).rename(path)
    os.utime(path, ns=(1, 1))
    after = await answer(engine, request)
    assert after.reused_tokens == 0
    assert after.text != before.text


async def test_forced_bytes_begin_the_answer(engine: LocalEngine, starter: Path) -> None:
    prompt = await tokens_of(engine, starter, "import numpy as np\nimport matplotlib.pyplot as")
    request = GenerateRequest(
        weights=Weights(model=starter), tokens=prompt, max_tokens=6, forced=b" pl"
    )
    assert (await answer(engine, request)).text.startswith(" plt")
    odd = dataclasses.replace(request, forced="\n\tx€".encode())
    assert (await answer(engine, odd)).text.startswith("\n\tx€")


async def test_stop_texts_and_end_tokens(engine: LocalEngine, starter: Path) -> None:
    prompt = await tokens_of(engine, starter, TEXT)
    request = GenerateRequest(weights=Weights(model=starter), tokens=prompt, max_tokens=40)
    whole = await answer(engine, request)
    stop = whole.text[5:8]
    stopped = await answer(engine, dataclasses.replace(request, stop_texts=(stop,)))
    assert stopped.reason == "text"
    assert stopped.text == whole.text[: whole.text.index(stop)]
    first = await tokens_of(engine, starter, whole.text)
    ended = await answer(engine, dataclasses.replace(request, stop_ids=first[:1]))
    assert (ended.reason, ended.text, ended.completion_tokens) == ("end", "", 0)


async def test_a_seed_makes_drawing_repeatable(engine: LocalEngine, starter: Path) -> None:
    prompt = await tokens_of(engine, starter, TEXT)
    request = GenerateRequest(
        weights=Weights(model=starter), tokens=prompt, max_tokens=12, temperature=1.0, seed=1
    )
    await answer(engine, request)
    texts = [await answer(engine, request) for _ in range(2)]
    other = await answer(engine, dataclasses.replace(request, seed=2))
    assert texts[0].text == texts[1].text != other.text


async def test_a_full_context_ends_the_answer(engine: LocalEngine, starter: Path) -> None:
    prompt = (await tokens_of(engine, starter, TEXT) * 30)[:253]
    request = GenerateRequest(weights=Weights(model=starter), tokens=prompt, max_tokens=50)
    full = await answer(engine, request)
    assert full.reason in ("length", "end")
    assert full.completion_tokens <= 4
    with pytest.raises(EngineError, match="256"):
        await answer(engine, dataclasses.replace(request, tokens=prompt * 2))


async def test_cancelling_within_a_prompt_or_an_answer_is_quick(
    engine: LocalEngine, starter: Path
) -> None:
    weights = Weights(model=starter)
    await engine.warm(weights)
    prompt = (await tokens_of(engine, starter, TEXT) * 30)[:240]
    short = GenerateRequest(weights=weights, tokens=prompt[:30], max_tokens=1)
    for tokens, wait_for_piece in ((prompt, False), (prompt[:40], True)):
        request = GenerateRequest(weights=weights, tokens=tokens, max_tokens=200)
        stream = engine.generate(request)
        task = asyncio.create_task(anext(stream))
        if wait_for_piece:
            await task
            task = asyncio.create_task(anext(stream))
        else:
            await asyncio.sleep(0.05)
        cancelled_s = time.perf_counter()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await stream.aclose()
        while (await engine.status())["queue"]["completion"]:
            await asyncio.sleep(0.002)
        assert time.perf_counter() - cancelled_s < 0.2
    after = await answer(engine, dataclasses.replace(short, max_tokens=8))
    assert after.text == replay(starter, None, [prompt[:30]], 8)


async def test_a_completion_overtakes_a_chat_and_leaves_it_right(
    engine: LocalEngine, starter: Path
) -> None:
    weights = Weights(model=starter)
    prompt = await tokens_of(engine, starter, TEXT)
    long_prompt = (prompt * 20)[:200]
    await engine.warm(weights)
    chat = GenerateRequest(
        weights=weights, tokens=long_prompt, max_tokens=24, priority=Priority.CHAT
    )
    order = []

    async def ask(name: str, request: GenerateRequest) -> Finished:
        finished = await answer(engine, request)
        order.append(name)
        return finished

    chatting = asyncio.create_task(ask("chat", chat))
    await asyncio.sleep(0.05)
    completion = GenerateRequest(weights=weights, tokens=prompt, max_tokens=4)
    completed = await ask("completion", completion)
    talked = await chatting
    assert order == ["completion", "chat"]
    assert completed.text == replay(starter, None, [prompt], 4)
    assert talked.text == replay(starter, None, [long_prompt], 24)
    roles = {context["role"] for context in (await engine.status())["contexts"]}
    assert roles == {"completion", "chat"}


async def test_scores_are_not_changed_by_requests_that_overtake_them(
    engine: LocalEngine, starter: Path, adapter_a: Path
) -> None:
    weights = Weights(model=starter, adapters=(adapter_a,))
    prompt = await tokens_of(engine, starter, TEXT)
    windows = [(prompt * 20)[:200], prompt, prompt[:2]]
    undisturbed = await engine.score(weights, windows)
    scoring = asyncio.create_task(engine.score(weights, windows))
    await asyncio.sleep(0.05)
    request = GenerateRequest(weights=weights, tokens=prompt, max_tokens=3)
    await answer(engine, request)
    assert not scoring.done()
    for one, other in zip(await scoring, undisturbed, strict=True):
        assert np.array_equal(one, other)
    assert [len(scores) for scores in undisturbed] == [199, len(prompt) - 1, 1]


async def test_many_adapters_keep_to_the_limit_and_unload_frees_all(
    engine: LocalEngine, starter: Path, make_adapter: Callable[..., Path]
) -> None:
    prompt = (await tokens_of(engine, starter, TEXT))[:3]
    for number in range(8):
        adapter = make_adapter(f"many-{number}", number)
        weights = Weights(model=starter, adapters=(adapter,))
        await answer(engine, GenerateRequest(weights=weights, tokens=prompt, max_tokens=1))
    status = await engine.status()
    assert len(status["contexts"]) == 6
    assert Path(status["contexts"][-1]["adapters"][0]).name == "many-7.gguf"
    assert len(status["models"]) == 1
    await engine.unload()
    status = await engine.status()
    assert (status["contexts"], status["models"]) == ([], [])
    assert await engine.facts(starter)


async def test_errors_reach_the_one_who_asked_and_nobody_else(
    engine: LocalEngine, starter: Path, tmp_path: Path, make_adapter: Callable[..., Path]
) -> None:
    good = GenerateRequest(weights=Weights(model=starter), tokens=(100,), max_tokens=1)
    narrow = make_adapter("narrow-local", 5, width=64)
    for weights in (
        Weights(model=tmp_path / "none.gguf"),
        Weights(model=starter, adapters=(narrow,)),
        Weights(model=starter, adapters=(starter,)),
    ):
        with pytest.raises(ModelError):
            await answer(engine, dataclasses.replace(good, weights=weights))
        await answer(engine, good)
    with pytest.raises(ModelError, match="none"):
        await engine.facts(tmp_path / "none.gguf")
    with pytest.raises(EngineError, match="empty"):
        await answer(engine, dataclasses.replace(good, tokens=()))


async def test_a_damaged_adapter_is_told_from_a_dull_one(
    engine: LocalEngine, starter: Path, make_adapter: Callable[..., Path]
) -> None:
    weights = Weights(model=starter, adapters=(make_adapter("nan", 1, size=float("nan")),))
    with pytest.raises(EngineError, match="NaN"):
        await answer(engine, GenerateRequest(weights=weights, tokens=(100, 101), max_tokens=2))


async def test_closing_ends_what_is_asked_for(settings: EngineSettings, starter: Path) -> None:
    engine = LocalEngine(settings)
    request = GenerateRequest(weights=Weights(model=starter), tokens=(100,) * 50, max_tokens=200)
    asking = asyncio.create_task(answer(engine, request))
    await asyncio.sleep(0.5)
    await engine.close()
    with pytest.raises(EngineError):
        await asking
    with pytest.raises(EngineError, match="closed"):
        await answer(engine, request)


async def test_what_is_computed_ahead_gives_way(engine: LocalEngine, starter: Path) -> None:
    """Whoever needs its context gets it at once, and the answer of a context of its own."""
    prompt = await tokens_of(engine, starter, TEXT)
    request = GenerateRequest(weights=Weights(model=starter), tokens=prompt, max_tokens=8)
    alone = await answer(engine, request)
    ahead = engine.generate(dataclasses.replace(request, max_tokens=10_000, ahead=True))
    async with contextlib.aclosing(ahead):
        await anext(ahead)
        wanted = await answer(engine, request)
        assert wanted.text == replay(starter, None, [prompt, prompt], 8)
        assert wanted.text == alone.text
        assert wanted.reused_tokens == len(prompt) - 1
        with pytest.raises(Cancelled):
            await collect(ahead)
    contexts = (await engine.status())["contexts"]
    assert [one["role"] for one in contexts] == ["completion"]
    # Nobody in its way, it ends as any other.
    done = await answer(engine, dataclasses.replace(request, ahead=True))
    assert done.text == alone.text


@pytest.mark.parametrize("heal", [False, True])
async def test_a_token_of_another_vocabulary_is_refused(
    engine: LocalEngine, starter: Path, heal: bool
) -> None:
    """Looked up unchecked it would end the process."""
    request = GenerateRequest(
        weights=Weights(model=starter), tokens=(1, 2, 10**6), max_tokens=1, heal=heal
    )
    with pytest.raises(EngineError, match="1000000"):
        await answer(engine, request)
