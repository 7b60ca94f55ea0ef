"""The engine host as a process of its own, and its client."""

import asyncio
import contextlib
import dataclasses
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import flex_assist
from flex_assist.config import EngineSettings
from flex_assist.engine import link as link_module
from flex_assist.engine import wire
from flex_assist.engine.client import HostEngine
from flex_assist.engine.protocol import (
    PROTOCOL_VERSION,
    Finished,
    GenerateRequest,
    TextPiece,
    Weights,
)
from flex_assist.engine.rendezvous import rendezvous
from flex_assist.errors import EngineError, ModelError
from flex_assist.locations import Locations

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes and sockets of POSIX")


@pytest.fixture
def engine(host: HostEngine) -> HostEngine:
    return host


@pytest.fixture
def request_for(starter: Path) -> GenerateRequest:
    """Some tokens, whatever they say."""
    tokens = tuple(range(1000, 1020))
    return GenerateRequest(weights=Weights(model=starter), tokens=tokens, max_tokens=8)


async def answer(engine: HostEngine, request: GenerateRequest) -> Finished:
    pieces = []
    async for item in engine.generate(request):
        if isinstance(item, Finished):
            assert "".join(pieces) == item.text
            return item
        pieces.append(item.text)
    raise AssertionError("no Finished")


async def process_of(engine: HostEngine) -> int:
    number = (await engine.status())["process"]
    assert isinstance(number, int)
    return number


def alive(process: int) -> bool:
    """Whether it runs; one that ended but was not waited for yet does not."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


async def gone(process: int, within_s: float = 5.0) -> bool:
    limit_s = time.monotonic() + within_s
    while alive(process) and time.monotonic() < limit_s:
        await asyncio.sleep(0.02)
    return not alive(process)


def hosts_of(locations: Locations) -> list[int]:
    """Processes of hosts of this home."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            mine = os.fsencode(locations.runtime) in command
            if mine and b"flex_assist.engine.host" in command and alive(int(entry.name)):
                found.append(int(entry.name))
    return found


async def connect(
    locations: Locations, **hello: object
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, dict[str, Any] | None]:
    """A connection by hand, and the answer to its hello."""
    place = rendezvous(locations)
    reader, writer = await asyncio.open_unix_connection(str(place.socket))
    message = {
        "op": "hello",
        "protocol": PROTOCOL_VERSION,
        "version": "0",
        "token": place.token(),
        **hello,
    }
    writer.write(wire.frame(message))
    return reader, writer, await wire.read(reader)


async def test_the_host_starts_on_demand_and_answers_as_the_engine_does(
    engine: HostEngine, request_for: GenerateRequest, starter: Path, locations: Locations
) -> None:
    assert await engine.host_status() is None
    assert (await engine.facts(starter)).architecture == "llama"
    (tokens,) = await engine.tokenize(starter, [TextPiece(text="hello world")])
    assert len(tokens) == 2
    await engine.warm(request_for.weights)
    first = await answer(engine, request_for)
    second = await answer(engine, request_for)
    assert second.reused_tokens == len(request_for.tokens) - 1
    assert first.completion_tokens == 8
    status = await engine.host_status()
    assert status is not None
    assert [model["path"] for model in status["models"]] == [str(starter.resolve())]
    place = rendezvous(locations)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (place.socket, place.token_file)]
    assert modes == [0o600, 0o600]
    assert stat.S_IMODE(locations.engine_log.stat().st_mode) == 0o600
    with pytest.raises(ModelError, match="does not exist"):
        await answer(
            engine,
            dataclasses.replace(request_for, weights=Weights(model=starter.with_name("no.gguf"))),
        )


async def test_the_host_is_a_process_apart(engine: HostEngine) -> None:
    process = await process_of(engine)
    assert os.getsid(process) == process != os.getsid(0)
    assert os.readlink(f"/proc/{process}/cwd") == "/"
    loaded = Path(f"/proc/{process}/maps").read_text()
    assert "libllama" not in loaded
    assert "numpy" not in loaded


async def test_a_killed_host_costs_one_error_and_is_replaced(
    engine: HostEngine, request_for: GenerateRequest
) -> None:
    process = await process_of(engine)
    stream = engine.generate(dataclasses.replace(request_for, max_tokens=400))
    await anext(stream)
    os.kill(process, signal.SIGKILL)
    with pytest.raises(EngineError, match="ask again"):
        async for _ in stream:
            pass
    assert (await answer(engine, request_for)).completion_tokens == 8
    assert await process_of(engine) != process


async def test_many_clients_at_once_start_one_host(
    locations: Locations, settings: EngineSettings
) -> None:
    engines = [HostEngine(locations, settings) for _ in range(8)]
    processes = await asyncio.gather(*map(process_of, engines))
    assert len(set(processes)) == 1
    assert hosts_of(locations) == [processes[0]]
    for engine in engines:
        await engine.close()
    assert alive(processes[0])
    assert await engines[0].stop_host()
    assert await gone(processes[0])


async def test_many_processes_at_once_start_one_host(
    engine: HostEngine, locations: Locations
) -> None:
    program = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from flex_assist.config import EngineSettings\n"
        "from flex_assist.engine.client import HostEngine\n"
        "from flex_assist.locations import Locations\n"
        "root = Path(sys.argv[1])\n"
        "home = Locations(config=root / 'config', data=root / 'data', cache=root / 'cache',"
        " runtime=root / 'run')\n"
        "print(asyncio.run(HostEngine(home, EngineSettings()).status())['process'])\n"
    )
    root = str(locations.runtime.parent)
    clients = [
        subprocess.Popen([sys.executable, "-c", program, root], stdout=subprocess.PIPE)
        for _ in range(4)
    ]
    outputs = [client.communicate(timeout=30)[0] for client in clients]
    assert len(set(outputs)) == 1
    assert hosts_of(locations) == [int(outputs[0])]
    assert await process_of(engine) == int(outputs[0])


async def test_a_host_that_does_not_get_the_lock_leaves_the_other_alone(
    engine: HostEngine, locations: Locations
) -> None:
    process = await process_of(engine)
    folders = [f"--{name}={getattr(locations, name)}" for name in Locations.__slots__]
    second = subprocess.run(
        [sys.executable, "-m", "flex_assist.engine.host", *folders], timeout=20, check=False
    )
    assert second.returncode == 0
    assert "serves already" in locations.engine_log.read_text()
    assert await process_of(engine) == process


async def test_a_wrong_token_gets_nothing(engine: HostEngine, locations: Locations) -> None:
    process = await process_of(engine)
    reader, writer, refusal = await connect(locations, token="0" * 64)
    assert refusal is not None
    assert "token" in refusal["error"]["message"]
    writer.write(wire.frame({"op": "stop", "id": 1}))
    with contextlib.suppress(ConnectionError):
        assert await reader.read() == b""
    writer.close()
    assert await process_of(engine) == process


async def test_garbage_ends_the_connection_and_not_the_host(
    engine: HostEngine, locations: Locations, request_for: GenerateRequest
) -> None:
    process = await process_of(engine)
    place = rendezvous(locations)
    for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 1000, b"\0\0\0\1\xc1", b"\0\0\0\5ab"):
        _, greeted, _ = await connect(locations)
        _, stranger = await asyncio.open_unix_connection(str(place.socket))
        for writer in (greeted, stranger):
            writer.write(garbage)
            writer.write_eof()
            writer.close()
    assert (await answer(engine, request_for)).completion_tokens == 8
    assert await process_of(engine) == process
    assert "Traceback" not in locations.engine_log.read_text()


async def test_wrong_requests_are_answered_and_the_connection_goes_on(
    engine: HostEngine, locations: Locations, starter: Path
) -> None:
    await engine.status()
    reader, writer, _ = await connect(locations)
    model = wire.pack_path(starter)
    wrong = [
        {"op": "explode", "id": 1},
        {"op": "facts", "id": 2},
        {"op": "facts", "id": 3, "model": "text"},
        {"op": "facts", "id": 4, "model": b"/dev/zero"},
        {"op": "tokenize", "id": 5, "model": model, "pieces": [{"text": 1, "special": False}]},
        {"op": "generate", "id": 6, "tokens": "all"},
        {"op": "status"},
    ]
    answers = {}
    for message in wrong:
        writer.write(wire.frame(message))
        given = await wire.read(reader)
        assert given is not None
        answers[given["id"]] = given["error"]
    assert set(answers) == {1, 2, 3, 4, 5, 6, None}
    assert answers[4]["kind"] == "ModelError"
    writer.write(wire.frame({"op": "status", "id": 7}))
    last = await wire.read(reader)
    assert last is not None
    assert last["result"]["requests"] == 0
    writer.close()


async def test_status_is_answered_while_a_model_loads_and_works(
    engine: HostEngine, request_for: GenerateRequest
) -> None:
    await engine.status()
    slow = dataclasses.replace(request_for, tokens=request_for.tokens * 8, max_tokens=8)
    asking = asyncio.create_task(answer(engine, slow))
    longest_s = 0.0
    while not asking.done():
        began_s = time.perf_counter()
        await engine.status()
        longest_s = max(longest_s, time.perf_counter() - began_s)
        await asyncio.sleep(0.01)
    assert (await asking).completion_tokens > 0
    assert longest_s < 1.0


async def test_closing_an_answer_cancels_it_in_the_host(
    engine: HostEngine, request_for: GenerateRequest
) -> None:
    await engine.warm(request_for.weights)
    stream = engine.generate(dataclasses.replace(request_for, max_tokens=230))
    await anext(stream)
    await stream.aclose()
    cancelled_s = time.perf_counter()
    while (await engine.status())["queue"]["completion"]:
        await asyncio.sleep(0.005)
    assert time.perf_counter() - cancelled_s < 0.2
    assert (await engine.status())["requests"] == 0


async def test_several_requests_at_once_on_one_connection(
    engine: HostEngine, request_for: GenerateRequest
) -> None:
    alone = await answer(engine, request_for)
    several = await asyncio.gather(*(answer(engine, request_for) for _ in range(5)))
    assert {finished.completion_tokens for finished in several} == {alone.completion_tokens}
    assert len({finished.text for finished in several}) == 1


async def test_an_idle_host_ends_and_the_next_request_starts_another(
    locations: Locations, settings: EngineSettings
) -> None:
    engine = HostEngine(locations, dataclasses.replace(settings, idle_exit_s=1.0))
    process = await process_of(engine)
    assert await gone(process)
    assert await engine.host_status() is None
    assert not rendezvous(locations).socket.exists()
    assert await process_of(engine) != process
    assert await engine.stop_host()
    assert not await engine.stop_host()
    await engine.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_host_cleanly(
    engine: HostEngine, locations: Locations, request_for: GenerateRequest, number: int
) -> None:
    process = await process_of(engine)
    stream = engine.generate(dataclasses.replace(request_for, max_tokens=230))
    await anext(stream)
    os.kill(process, number)
    with pytest.raises(EngineError):
        async for _ in stream:
            pass
    assert await gone(process)
    assert not rendezvous(locations).socket.exists()
    log = locations.engine_log.read_text()
    assert log.rstrip().endswith("engine host ends")
    assert "Traceback" not in log


async def test_a_newer_client_replaces_the_host_once_it_is_idle(
    engine: HostEngine,
    locations: Locations,
    settings: EngineSettings,
    request_for: GenerateRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old = await process_of(engine)
    stream = engine.generate(dataclasses.replace(request_for, max_tokens=60))
    await anext(stream)
    major = int(flex_assist.__version__.split(".")[0]) + 1
    monkeypatch.setattr(link_module, "__version__", f"{major}.0")
    newer = HostEngine(locations, settings)
    asking = asyncio.create_task(process_of(newer))
    ended = [item async for item in stream]
    assert isinstance(ended[-1], Finished)
    # The new one is of this version too, so the newer client would replace it again: no further.
    assert await gone(old)
    asking.cancel()
    monkeypatch.undo()
    await asyncio.gather(asking, return_exceptions=True)
    await newer.close()
    assert await process_of(engine) != old


async def test_a_host_of_a_newer_protocol_is_left_alone(
    engine: HostEngine,
    locations: Locations,
    settings: EngineSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    process = await process_of(engine)
    monkeypatch.setattr(link_module, "PROTOCOL_VERSION", PROTOCOL_VERSION - 1)
    with pytest.raises(EngineError, match="newer"):
        await HostEngine(locations, settings).status()
    monkeypatch.undo()
    assert await process_of(engine) == process


async def test_a_host_that_cannot_start_says_why(
    locations: Locations, settings: EngineSettings
) -> None:
    locations.runtime.mkdir()
    locations.runtime.chmod(0o700)
    (locations.runtime / "engine.lock").mkdir()
    with pytest.raises(EngineError, match=r"engine\.lock"):
        await HostEngine(locations, settings).status()


async def test_a_socket_that_is_taken_away_is_noticed(
    engine: HostEngine, locations: Locations, settings: EngineSettings
) -> None:
    quick = HostEngine(locations, dataclasses.replace(settings, idle_exit_s=4.0))
    process = await process_of(quick)
    rendezvous(locations).socket.unlink()
    other = HostEngine(locations, settings)
    assert await process_of(other) != process
    await other.close()
    await quick.close()
