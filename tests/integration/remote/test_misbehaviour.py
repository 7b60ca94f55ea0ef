"""Servers that stall, cut, turn away or send rubbish; and what leaves the machine."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from flex_assist.engine.local import LocalEngine
from flex_assist.engine.protocol import Finished, GenerateRequest, Piece, TextPiece, Weights
from flex_assist.engine.remote.engine import RemoteEngine
from flex_assist.engine.remote.patience import Patience
from flex_assist.engine.remote.server import PROBE
from flex_assist.errors import EngineError
from flex_assist.remote_settings import RemoteSettings

from .stand_in import DONE, Behaviour, StandIn, cut, event, silent, stream, text, whole

Open = Callable[[RemoteSettings], RemoteEngine]
PROMPT = "def first(items):\n    return items[0]\n\n\ndef second(items):\n    ret"
GOOD = stream(text("urn"), text(" 1"), text("", "stop"), DONE)


@pytest.fixture
async def server(base: Path, local: LocalEngine) -> AsyncIterator[StandIn]:
    [tokens] = await local.tokenize(base, [TextPiece(text=PROBE)])
    stand_in = StandIn(behaviours=[GOOD], tokens=tokens)
    serving = await stand_in.start()
    yield stand_in
    serving.close()


@pytest.fixture
def settings(server: StandIn) -> RemoteSettings:
    """Limits that no busy machine reaches."""
    return RemoteSettings(
        url=server.url, fallback=False, first_timeout_s=20, stall_timeout_s=20,
        connect_timeout_s=20, total_timeout_s=60,
    )  # fmt: skip


@pytest.fixture
def hasty(settings: RemoteSettings) -> RemoteSettings:
    """Limits that are there to be reached."""
    return replace(settings, first_timeout_s=0.4, stall_timeout_s=0.3)


@pytest.fixture
def engine(settings: RemoteSettings, opened: Open) -> RemoteEngine:
    return opened(settings)


@pytest.fixture
async def request_for(base: Path, local: LocalEngine) -> GenerateRequest:
    return await asking(base, local, PROMPT)


async def asking(base: Path, local: LocalEngine, prompt: str) -> GenerateRequest:
    [tokens] = await local.tokenize(base, [TextPiece(text=prompt)])
    return GenerateRequest(weights=Weights(model=base), tokens=tuple(tokens), max_tokens=8)


async def answer(engine: RemoteEngine, request: GenerateRequest) -> tuple[str, Finished]:
    shown = ""
    async with aclosing(engine.generate(request)) as items:
        async for item in items:
            if isinstance(item, Piece):
                shown += item.text
            else:
                return shown, item
    raise AssertionError("no end")


async def test_an_answer(
    engine: RemoteEngine, server: StandIn, request_for: GenerateRequest
) -> None:
    shown, finished = await answer(engine, request_for)
    assert shown == finished.text == "urn 1"
    assert finished.reason == "end"
    [asked] = server.completions
    assert asked.body["prompt"] == list(request_for.tokens)
    assert asked.body["model"] == "cut"
    assert "authorization" not in asked.headers


async def test_the_fallback_says_so_once_for_each_reason(
    settings: RemoteSettings,
    opened: Open,
    server: StandIn,
    request_for: GenerateRequest,
) -> None:
    server.behaviours = [whole(500, {"error": {"message": "out of\x1b memory"}}), whole(500, {})]
    engine = opened(replace(settings, fallback=True))
    _, first = await answer(engine, request_for)
    _, second = await answer(engine, request_for)
    host = engine._settings.host
    assert (
        first.warning
        == second.warning
        == (f"{host} answers 500: out of memory. Until that is mended, this machine computes")
    )
    assert first.served == f"computed on this machine: {host} answers 500: out of memory"
    assert first.form == "base"
    # Left alone for a while; and a 500 is not tried again, for it would fail again.
    assert len(server.completions) == 1


async def test_it_is_asked_again_after_a_pause(
    settings: RemoteSettings, opened: Open, server: StandIn, request_for: GenerateRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("flex_assist.engine.remote.patience.FIRST_PAUSE_S", 0.05)
    server.behaviours = [whole(500, "request 1"), whole(500, "request 2"), GOOD]
    engine = opened(replace(settings, fallback=True))
    assert (await answer(engine, request_for))[1].form == "base"
    await asyncio.sleep(0.06)
    _, second = await answer(engine, request_for)
    assert "request 2" in second.served
    assert "request 1" in second.warning
    await asyncio.sleep(0.15)
    assert (await answer(engine, request_for))[1].form == "remote"


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_who_is_busy_is_asked_again(
    engine: RemoteEngine, server: StandIn, request_for: GenerateRequest, status: int
) -> None:
    server.behaviours = [whole(status, {"error": "later"}, "Retry-After: 0.05"), GOOD]
    assert (await answer(engine, request_for))[0] == "urn 1"
    assert len(server.completions) == 2


async def test_not_for_ever(
    engine: RemoteEngine, server: StandIn, request_for: GenerateRequest
) -> None:
    server.behaviours = [whole(429, {"error": "later"})]
    with pytest.raises(EngineError, match="answers 429: later"):
        await answer(engine, request_for)
    assert len(server.completions) == 2


async def test_a_long_wait_is_not_waited_for(
    engine: RemoteEngine, server: StandIn, request_for: GenerateRequest
) -> None:
    server.behaviours = [whole(503, {"error": "later"}, "Retry-After: 60")]
    started = time.monotonic()
    with pytest.raises(EngineError, match="answers 503"):
        await answer(engine, request_for)
    assert time.monotonic() - started < 1.5
    assert len(server.completions) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422, 500, 307])
async def test_what_would_fail_again_is_not_tried_again(
    engine: RemoteEngine, server: StandIn, request_for: GenerateRequest, status: int
) -> None:
    elsewhere = "Location: http://192.0.2.1/v1/completions"
    server.behaviours = [whole(status, {"message": "no"}, elsewhere)]
    with pytest.raises(EngineError, match=str(status)):
        await answer(engine, request_for)
    assert len(server.completions) == 1


async def test_a_hang_up_before_a_word_is_tried_again(
    engine: RemoteEngine, server: StandIn, request_for: GenerateRequest
) -> None:
    server.behaviours = [cut, GOOD]
    assert (await answer(engine, request_for))[0] == "urn 1"


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        (silent, "gives no text within 0.4 s"),
        (stream(b": ping\n\n", 3600), "gives no text within 0.4 s"),
        (stream(b"data: not json\n\n"), "sends what is no answer: not json"),
        (stream(b"data: []\n\n"), "sends what is no answer"),
        (stream(b"data: " + b"[" * 100_000 + b"\n\n"), "sends what is no answer"),
        (stream(b"data: " + b"x" * 300_000), "sends what is no stream of events"),
        (stream(b"\xff\xfe\x00\x01" * 100), "cut its answer off"),
        (stream(content_type="text/html"), "sends what is no stream of events"),
        (stream({"error": {"message": "engine died"}}), "failed: engine died"),
        (stream(text("a" * 100), *[text("a" * 100)] * 100), "sends more than it was asked for"),
        (stream({"choices": [{"text": 5}]}, {"choices": 7}, DONE), "cut its answer off"),
        (stream(), "cut its answer off"),
    ],
)
async def test_garbage(
    hasty: RemoteSettings,
    opened: Open, server: StandIn, request_for: GenerateRequest, behaviour: Behaviour,
    message: str,
) -> None:  # fmt: skip
    server.behaviours = [behaviour]
    with pytest.raises(EngineError, match=message):
        await answer(opened(hasty), request_for)
    assert len(server.completions) == 1


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        (stream(text("urn"), 3600), "stopped in the middle for 0.3 s"),
        (stream(text("urn")), "cut its answer off"),
        (stream(text("urn"), {"error": "died"}), "failed: died"),
    ],
)
async def test_what_breaks_off_is_told_and_not_begun_anew(
    hasty: RemoteSettings, opened: Open, server: StandIn, request_for: GenerateRequest,
    behaviour: Behaviour, message: str,
) -> None:  # fmt: skip
    server.behaviours = [behaviour]
    engine = opened(replace(hasty, fallback=True))
    with pytest.raises(EngineError, match=f"{message}, in the middle of an answer; ask again"):
        await answer(engine, request_for)
    assert len(server.completions) == 1


async def test_the_whole_answer_has_a_limit(
    settings: RemoteSettings,
    opened: Open,
    server: StandIn,
    request_for: GenerateRequest,
) -> None:
    server.behaviours = [stream(*[part for _ in range(20) for part in (text("a"), 0.1)])]
    engine = opened(replace(settings, total_timeout_s=0.5))
    with pytest.raises(EngineError, match=r"is not done within 0\.5 s"):
        await answer(engine, request_for)


async def test_nobody_listens(
    settings: RemoteSettings, opened: Open, request_for: GenerateRequest
) -> None:
    engine = opened(replace(settings, url="http://127.0.0.1:9/v1"))
    with pytest.raises(EngineError, match=r"127\.0\.0\.1:9 cannot be reached"):
        await answer(engine, request_for)


async def test_who_types_past_a_server_that_hangs_learns_of_it(
    hasty: RemoteSettings,
    opened: Open,
    server: StandIn,
    request_for: GenerateRequest,
) -> None:
    """Each request is withdrawn long before its limit."""
    server.behaviours = [silent]
    engine = opened(replace(hasty, fallback=True))
    for _ in range(20):
        task = asyncio.create_task(answer(engine, request_for))
        done, _ = await asyncio.wait({task}, timeout=0.1)
        if done:
            break
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    _, finished = await answer(engine, request_for)
    assert finished.form == "base"
    assert "gives no text within 0.4 s" in finished.warning


async def test_closing_hangs_up(
    engine: RemoteEngine, server: StandIn, request_for: GenerateRequest
) -> None:
    server.behaviours = [stream(text("a"), 3600)]
    async with aclosing(engine.generate(request_for)) as items:
        async for _ in items:
            break
    async with asyncio.timeout(2):
        await server.hung_up.wait()


async def test_vllm_is_told_where_to_stop_and_says_why(
    engine: RemoteEngine, server: StandIn, base: Path, request_for: GenerateRequest
) -> None:
    server.models = [
        {"id": "cut", "owned_by": "vllm", "parent": None},
        {"id": "python", "owned_by": "vllm", "parent": "cut"},
    ]
    usage = {
        "prompt_tokens": 20,
        "completion_tokens": 3,
        "prompt_tokens_details": {"cached_tokens": 16},
    }
    server.behaviours = [
        stream(
            text("urn"), text(" 1", "stop", stop_reason="\n"), {"choices": [], "usage": usage}, DONE
        )
    ]
    weights = Weights(model=base, adapters=(base,), name="python", version="v1")
    request = replace(request_for, weights=weights, stop_texts=("\n",), stop_ids=(5,))
    _, finished = await answer(engine, request)
    assert (finished.text, finished.reason) == ("urn 1", "text")
    assert (finished.prompt_tokens, finished.reused_tokens, finished.completion_tokens) == (
        20,
        16,
        3,
    )
    [asked] = server.completions
    assert asked.body["model"] == "python"
    assert asked.body["stop"] == ["\n"]
    assert 5 in asked.body["stop_token_ids"]
    assert len(asked.body["stop_token_ids"]) > 1
    assert asked.body["add_special_tokens"] is False


@pytest.mark.parametrize(("begins", "wanted"), [(" return", "urn"), (" retry", "ry")])
async def test_a_word_that_the_server_goes_on_with(
    engine: RemoteEngine, server: StandIn, request_for: GenerateRequest, begins: str, wanted: str
) -> None:
    server.behaviours = [stream(text(begins[:2]), text(begins[2:]), text("", "stop"), DONE)]
    shown, finished = await answer(engine, replace(request_for, heal=True))
    assert shown == finished.text == wanted
    [asked] = server.completions
    assert len(asked.body["prompt"]) < len(request_for.tokens)


async def test_a_word_that_the_server_does_not_go_on_with(
    engine: RemoteEngine, server: StandIn, request_for: GenerateRequest
) -> None:
    """Then it is sent as it is."""
    server.behaviours = [stream(text("pass"), 3600), GOOD]
    shown, _ = await answer(engine, replace(request_for, heal=True))
    assert shown == "urn 1"
    first, second = server.completions
    assert first.body["prompt"] == list(request_for.tokens)[: len(first.body["prompt"])]
    assert second.body["prompt"] == list(request_for.tokens)


async def test_without_proof_of_the_vocabulary_text_is_sent(
    engine: RemoteEngine, server: StandIn, request_for: GenerateRequest
) -> None:
    server.tokens = None
    await answer(engine, request_for)
    assert server.completions[0].body["prompt"] == PROMPT


async def test_two_models_and_no_base(
    engine: RemoteEngine, server: StandIn, request_for: GenerateRequest
) -> None:
    server.models = [{"id": "a"}, {"id": "b"}]
    with pytest.raises(EngineError, match="2 models that could be the base, of a, b"):
        await answer(engine, request_for)


@pytest.mark.parametrize(
    ("build", "cached"),
    [("b10121-0a1b2c3", False), ("b11549-0a1b2c3", True), ("b0-unknown", False), (7, False)],
)
async def test_the_prompt_cache_of_a_server_that_mixes_adapters_up(
    engine: RemoteEngine, server: StandIn, request_for: GenerateRequest, build: object, cached: bool
) -> None:
    server.models = [{"id": "cut", "owned_by": "llamacpp"}]
    server.others = {
        "/lora-adapters": [
            {"id": 0, "path": "a/python.gguf"},
            {"id": 1, "path": "go/adapter.gguf"},
        ],
        "/props": {"build_info": build},
    }
    server.behaviours = [
        stream({"content": "x"}, {"content": "", "stop": True, "stop_type": "eos"})
    ]
    weights = replace(request_for.weights, adapters=(Path("x"),), name="go")
    shown, finished = await answer(engine, replace(request_for, weights=weights))
    assert (shown, finished.reason) == ("x", "end")
    [asked] = server.completions
    assert asked.body["cache_prompt"] is cached
    assert asked.body["lora"] == [{"id": 0, "scale": 0.0}, {"id": 1, "scale": 1.0}]


async def test_a_merged_file_is_not_taken_for_the_base(
    settings: RemoteSettings, opened: Open, server: StandIn, base: Path,
    request_for: GenerateRequest,
) -> None:  # fmt: skip
    server.models = [{"id": "python", "owned_by": "llamacpp"}]
    engine = opened(settings)
    with pytest.raises(EngineError, match="no models that could be the base, of python"):
        await answer(engine, request_for)
    assert server.completions == []


SECRETS = (
    'key = "AKIAQYLPMN5HHHFPZAM2"',
    'password = "hT7!kd93Qz_pw"',
    "-----BEGIN RSA PRIVATE KEY-----\n" + "MIIEpAIBAAKCAQEA" * 8,
)


@pytest.mark.parametrize("line", SECRETS)
async def test_a_secret_stays(
    settings: RemoteSettings,
    opened: Open,
    server: StandIn,
    base: Path,
    local: LocalEngine,
    line: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    request = await asking(base, local, f"{line}\ndef f():\n    ")
    engine = opened(replace(settings, fallback=True))
    _, finished = await answer(engine, request)
    assert finished.form == "base"
    assert finished.served.startswith("computed on this machine: a secret in the prompt (")
    assert finished.warning == ""
    assert server.asked == []
    assert line[8:24] not in caplog.text + finished.served
    with pytest.raises(EngineError, match="a secret in the prompt"):
        await answer(opened(settings), request)


async def test_what_must_stay_stays(
    settings: RemoteSettings,
    opened: Open,
    server: StandIn,
    request_for: GenerateRequest,
) -> None:
    engine = opened(replace(settings, fallback=True))
    _, finished = await answer(
        engine, replace(request_for, keep_local="the file is ignored by git")
    )
    assert finished.served == "computed on this machine: the file is ignored by git"
    assert server.asked == []


async def test_the_key_is_sent_and_never_shown(
    settings: RemoteSettings, opened: Open, server: StandIn, request_for: GenerateRequest,
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level(logging.DEBUG)
    path = tmp_path / "key"
    path.write_text("k-12345\n")
    path.chmod(0o600)
    engine = opened(replace(settings, api_key_file=str(path)))
    await answer(engine, request_for)
    monkeypatch.setenv("ITS_KEY", "k-12345")
    engine = opened(replace(settings, api_key_env="ITS_KEY"))
    await answer(engine, request_for)
    assert {one.headers["authorization"] for one in server.asked} == {"Bearer k-12345"}
    assert "k-12345" not in caplog.text + repr(engine._settings) + str(await engine.status())


async def test_a_key_that_others_can_read(
    settings: RemoteSettings, opened: Open, server: StandIn, request_for: GenerateRequest,
    tmp_path: Path,
) -> None:  # fmt: skip
    path = tmp_path / "key"
    path.write_text("k-12345\n")
    path.chmod(0o640)
    engine = opened(replace(settings, api_key_file=str(path)))
    with pytest.raises(EngineError, match="chmod 600"):
        await answer(engine, request_for)
    assert server.asked == []


async def test_proxies_of_the_environment_see_nothing(
    engine: RemoteEngine, server: StandIn, request_for: GenerateRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    assert (await answer(engine, request_for))[0] == "urn 1"


async def test_one_connection_serves_many_answers(
    engine: RemoteEngine, server: StandIn, request_for: GenerateRequest
) -> None:
    assert event({}) == b"data: {}\n\n"
    await answer(engine, request_for)
    await answer(engine, request_for)
    assert [one.path for one in server.asked].count("/v1/models") == 1


async def test_half_a_character_is_shown_as_a_question_mark(
    engine: RemoteEngine, server: StandIn, request_for: GenerateRequest
) -> None:
    """JSON can spell one, UTF-8 cannot."""
    server.behaviours = [stream(text("a\ud83d"), text("", "stop"), DONE)]
    shown, _ = await answer(engine, request_for)
    assert shown == "a?"


@pytest.mark.parametrize(
    "said",
    [b"Content-Length: 100\r\n\r\n{", b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}"],
)
async def test_a_short_answer_that_is_cut_or_packed_wrongly(
    settings: RemoteSettings, opened: Open, request_for: GenerateRequest, said: bytes
) -> None:
    async def broken(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" + said)
        await writer.drain()
        writer.close()

    serving = await asyncio.start_server(broken, "127.0.0.1", 0)
    port = serving.sockets[0].getsockname()[1]
    engine = opened(replace(settings, url=f"http://127.0.0.1:{port}/v1"))
    try:
        with pytest.raises(EngineError, match="hung up"):
            await answer(engine, request_for)
    finally:
        serving.close()


async def test_a_key_that_was_replaced_is_read_again(
    settings: RemoteSettings, opened: Open, server: StandIn, request_for: GenerateRequest,
    tmp_path: Path,
) -> None:  # fmt: skip
    """Also where the list of models is what the old one was refused for."""
    path = tmp_path / "key"
    path.touch(mode=0o600)
    path.write_text("old")
    server.key = "new"
    engine = opened(replace(settings, api_key_file=str(path)))
    with pytest.raises(EngineError, match="refuses the API key"):
        await answer(engine, request_for)
    path.write_text("new")
    engine._patience = Patience(1.0)
    assert (await answer(engine, request_for))[0] == "urn 1"
