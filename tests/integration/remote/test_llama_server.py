"""llama.cpp's real server in the place of this machine's engine: the same answers."""

import asyncio
import json
import urllib.request
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flex_assist.engine.local import LocalEngine
from flex_assist.engine.protocol import Finished, GenerateRequest, Piece, TextPiece, Weights
from flex_assist.engine.remote.engine import RemoteEngine
from flex_assist.errors import EngineError
from flex_assist.remote_settings import RemoteSettings

from .conftest import KEY, LAYERS

Open = Callable[[RemoteSettings], RemoteEngine]

PROMPT = "def first(items):\n    return items[0]\n\n\ndef second(items):\n    ret"


@pytest.fixture
def settings(url: str, monkeypatch: pytest.MonkeyPatch) -> RemoteSettings:
    monkeypatch.setenv("TEST_KEY", KEY)
    return RemoteSettings(url=url, api_key_env="TEST_KEY", fallback=False)


@pytest.fixture
def engine(settings: RemoteSettings, opened: Open) -> RemoteEngine:
    return opened(settings)


@pytest.fixture
async def request_for(base: Path, local: LocalEngine) -> GenerateRequest:
    [tokens] = await local.tokenize(base, [TextPiece(text=PROMPT)])
    weights = Weights(model=base)
    return GenerateRequest(weights=weights, tokens=tuple(tokens), max_tokens=12)


async def answer(
    engine: LocalEngine | RemoteEngine, request: GenerateRequest
) -> tuple[list[str], Finished]:
    pieces, finished = [], None
    async with aclosing(engine.generate(request)) as items:
        async for item in items:
            if isinstance(item, Piece):
                pieces.append(item.text)
            else:
                finished = item
    assert finished is not None
    return pieces, finished


def adapted(base: Path, path: Path) -> Weights:
    return Weights(model=base, adapters=(path,), name=path.stem, version="v1")


async def test_the_same_tokens_as_here(
    engine: RemoteEngine, local: LocalEngine, request_for: GenerateRequest
) -> None:
    pieces, there = await answer(engine, request_for)
    _, here = await answer(local, request_for)
    assert there.text == here.text == "".join(pieces)
    assert len(pieces) > 3
    assert there.form == "remote"
    assert there.served.startswith("computed by 'cut' at 127.0.0.1:")
    assert (there.reason, there.warning) == ("length", "")
    assert there.prompt_tokens == len(request_for.tokens)
    assert there.completion_tokens == 12


async def test_a_word_that_was_begun_is_healed_as_here(
    engine: RemoteEngine, local: LocalEngine, request_for: GenerateRequest
) -> None:
    healed = replace(request_for, heal=True)
    _, there = await answer(engine, healed)
    _, here = await answer(local, healed)
    assert there.text == here.text
    assert there.prompt_tokens < len(request_for.tokens)


async def test_white_space_is_healed_though_it_holds_a_stop_text(
    engine: RemoteEngine, local: LocalEngine, base: Path, request_for: GenerateRequest
) -> None:
    [tokens] = await local.tokenize(base, [TextPiece(text="def f(x):\n    ")])
    request = replace(request_for, tokens=tuple(tokens), heal=True, stop_texts=("\n",))
    _, there = await answer(engine, request)
    _, here = await answer(local, request)
    assert (there.text, there.reason) == (here.text, here.reason)


async def test_the_adapter_is_chosen_by_its_name(
    engine: RemoteEngine, local: LocalEngine, base: Path, adapters: tuple[Path, Path],
    request_for: GenerateRequest,
) -> None:  # fmt: skip
    """A, B, B, base, A, B: each as here, whatever the server had in its cache."""
    python, go = (adapted(base, path) for path in adapters)
    texts, reused = [], []
    for weights in (python, go, go, Weights(model=base), python, go):
        request = replace(request_for, weights=weights)
        _, there = await answer(engine, request)
        _, here = await answer(local, request)
        assert there.text == here.text
        texts.append(there.text)
        reused.append(there.reused_tokens > 0)
    assert len(set(texts)) == 3
    # Whether the second of two alike finds something depends on the build.
    assert not any(reused[:2] + reused[3:])


async def test_an_adapter_that_is_not_there_is_never_answered_by_another(
    engine: RemoteEngine, settings: RemoteSettings, opened: Open, local: LocalEngine, base: Path,
    make_adapter: Callable[..., Path], request_for: GenerateRequest,
) -> None:  # fmt: skip
    rust = adapted(base, make_adapter("rust", 7, layers=LAYERS))
    request = replace(request_for, weights=rust)
    with pytest.raises(EngineError, match="has no adapter 'rust', only python, go, cut"):
        await answer(engine, request)
    falling = opened(replace(settings, fallback=True))
    _, found = await answer(falling, request)
    _, here = await answer(local, request)
    assert (found.text, found.form) == (here.text, "adapter")
    assert "has no adapter 'rust'" in found.served
    assert "has no adapter 'rust'" in found.warning
    await falling.warm(rust)
    # What another adapter is missing is no reason to leave the server alone.
    _, base_there = await answer(falling, replace(request, weights=Weights(model=base)))
    assert base_there.form == "remote"
    assert not base_there.warning


async def test_stop_texts(
    engine: RemoteEngine, local: LocalEngine, request_for: GenerateRequest
) -> None:
    _, whole = await answer(local, request_for)
    stop = whole.text[3:5]
    request = replace(request_for, stop_texts=(stop,))
    _, there = await answer(engine, request)
    _, here = await answer(local, request)
    assert (there.text, there.reason) == (here.text, "text")


async def test_hanging_up_stops_the_server(
    engine: RemoteEngine, settings: RemoteSettings, request_for: GenerateRequest
) -> None:
    async with aclosing(engine.generate(replace(request_for, max_tokens=450))) as items:
        async for _ in items:
            break
        assert await busy_slots(settings.url) == 1
    async with asyncio.timeout(5):
        while await busy_slots(settings.url):
            await asyncio.sleep(0.01)


async def test_a_task_that_is_cancelled_stops_the_server(
    engine: RemoteEngine, settings: RemoteSettings, request_for: GenerateRequest
) -> None:
    task = asyncio.create_task(answer(engine, replace(request_for, max_tokens=450)))
    async with asyncio.timeout(10):
        while not await busy_slots(settings.url):
            await asyncio.sleep(0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(5):
        while await busy_slots(settings.url):
            await asyncio.sleep(0.01)


async def test_text_prompts_say_the_same(
    settings: RemoteSettings, opened: Open, local: LocalEngine, request_for: GenerateRequest
) -> None:
    engine = opened(replace(settings, prompt="text"))
    _, there = await answer(engine, request_for)
    _, here = await answer(local, request_for)
    assert there.text == here.text


async def test_text_that_spells_a_control_token_is_not_sent_as_text(
    settings: RemoteSettings,
    opened: Open,
    local: LocalEngine,
    base: Path,
    request_for: GenerateRequest,
) -> None:
    [tokens] = await local.tokenize(base, [TextPiece(text="x = '<|im_start|>'")])
    request = replace(request_for, tokens=tuple(tokens))
    with pytest.raises(EngineError, match="spells control tokens"):
        await answer(opened(replace(settings, prompt="text")), request)
    _, there = await answer(opened(settings), request)
    _, here = await answer(local, request)
    assert there.text == here.text


async def test_a_wrong_key(
    settings: RemoteSettings, opened: Open, local: LocalEngine, request_for: GenerateRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("TEST_KEY", "another")
    engine = opened(settings)
    with pytest.raises(EngineError, match="refuses the API key") as caught:
        await answer(engine, request_for)
    assert "another" not in str(caught.value)


async def test_doctor_is_told_what_is_there(engine: RemoteEngine, base: Path) -> None:
    found = await engine.check(Weights(model=base))
    assert found == "llama.cpp with cut, adapters go, python; prompts as token ids"


async def test_another_vocabulary(
    settings: RemoteSettings,
    opened: Open,
    local: LocalEngine,
    tiny: Any,
    request_for: GenerateRequest,
) -> None:
    other = tiny.base()
    [tokens] = await local.tokenize(other, [TextPiece(text=PROMPT)])
    request = replace(request_for, weights=Weights(model=other), tokens=tuple(tokens))
    with pytest.raises(EngineError, match="has another vocabulary than the base model"):
        await answer(opened(settings), request)


async def busy_slots(url: str) -> int:
    def ask() -> list[dict[str, Any]]:
        request = urllib.request.Request(
            url.removesuffix("/v1") + "/slots", headers={"Authorization": f"Bearer {KEY}"}
        )
        with urllib.request.urlopen(request, timeout=10) as found:
            return list(json.loads(found.read()))

    slots = await asyncio.to_thread(ask)
    return sum(bool(slot["is_processing"]) for slot in slots)
