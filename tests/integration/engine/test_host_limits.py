"""The engine host under load, bad luck and old age."""

import asyncio
import contextlib
import dataclasses
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import psutil
import pytest

from flex_assist.config import EngineSettings
from flex_assist.engine import connection, giving_way, link, wire
from flex_assist.engine.client import HostEngine
from flex_assist.engine.host import MAX_CONNECTIONS
from flex_assist.engine.launch import kill_host
from flex_assist.engine.protocol import (
    PROTOCOL_VERSION,
    Finished,
    GenerateRequest,
    Piece,
    Priority,
    Weights,
)
from flex_assist.engine.rendezvous import rendezvous
from flex_assist.errors import EngineError, FlexAssistError, ModelError
from flex_assist.locations import Locations

pytestmark = pytest.mark.skipif(os.name == "nt", reason="processes and sockets of POSIX")

RECOVERED_S = 3.0


@pytest.fixture
def model(cut_starter: Callable[[int], Path], tmp_path: Path) -> Path:
    """A small model of the test's own: it may be replaced."""
    return Path(shutil.copy(cut_starter(2), tmp_path / "model.gguf"))


@pytest.fixture
def engine(host: HostEngine) -> HostEngine:
    return host


@pytest.fixture
def request_for(model: Path) -> GenerateRequest:
    return GenerateRequest(
        weights=Weights(model=model), tokens=tuple(range(1000, 1020)), max_tokens=4
    )


async def answer(engine: HostEngine, request: GenerateRequest) -> Finished:
    async for item in engine.generate(request):
        if isinstance(item, Finished):
            return item
    raise AssertionError("no Finished")


async def outcome(engine: HostEngine, request: GenerateRequest) -> Finished | FlexAssistError:
    try:
        return await answer(engine, request)
    except FlexAssistError as error:
        return error


async def until(condition: Callable[[dict[str, Any]], bool], engine: HostEngine) -> dict[str, Any]:
    async with asyncio.timeout(10):
        while not condition(status := await engine.status()):
            await asyncio.sleep(0.02)
    return status


async def test_models_are_freed_before_the_host_ends(
    locations: Locations, settings: EngineSettings, starter: Path
) -> None:
    engine = HostEngine(locations, dataclasses.replace(settings, idle_unload_s=0.5))
    request = GenerateRequest(
        weights=Weights(model=starter), tokens=tuple(range(100, 200)), max_tokens=2, document="a"
    )
    before = await answer(engine, request)
    status = await engine.status()
    assert [one["path"] for one in status["models"]] == [str(starter.resolve())]
    memory = psutil.Process(status["process"]).memory_info
    loaded_bytes = memory().rss
    # Asking for the status does not keep a model.
    freed = await until(lambda status: not status["models"], engine)
    assert freed["contexts"] == []
    assert memory().rss < loaded_bytes - starter.stat().st_size / 2
    again = await answer(engine, request)
    # What had been computed of the document is not computed again.
    assert (again.text, again.reused_tokens) == (before.text, 99)
    assert (await engine.status())["process"] == status["process"]
    await engine.stop_host()
    await engine.close()


async def test_an_answer_that_runs_keeps_its_model(
    locations: Locations, settings: EngineSettings, starter: Path
) -> None:
    engine = HostEngine(locations, dataclasses.replace(settings, idle_unload_s=0.1))
    request = GenerateRequest(
        weights=Weights(model=starter), tokens=(100,) * 20, max_tokens=100, priority=Priority.CHAT
    )
    assert (await answer(engine, request)).completion_tokens > 0
    await until(lambda status: not status["models"], engine)
    async with asyncio.timeout(10):
        # Told after they are gone.
        while "models are freed" not in locations.engine_log.read_text():
            await asyncio.sleep(0.02)
    assert "Traceback" not in locations.engine_log.read_text()
    await engine.stop_host()
    await engine.close()


async def test_every_one_of_50_requests_is_answered_once_when_the_host_is_killed(
    locations: Locations, settings: EngineSettings, request_for: GenerateRequest
) -> None:
    clients = [HostEngine(locations, settings) for _ in range(5)]
    await answer(clients[0], request_for)
    process = (await clients[0].status())["process"]
    asked = [
        asyncio.create_task(outcome(client, dataclasses.replace(request_for, max_tokens=200)))
        for client in clients
        for _ in range(10)
    ]
    await until(lambda status: status["requests"] == 50, clients[0])
    os.kill(process, signal.SIGKILL)
    killed_s = time.monotonic()
    given = await asyncio.wait_for(asyncio.gather(*asked), RECOVERED_S)
    lost = [one for one in given if isinstance(one, FlexAssistError)]
    assert lost
    assert all("ask again" in str(error) for error in lost)
    again = await asyncio.gather(*(answer(client, request_for) for client in clients))
    assert time.monotonic() - killed_s < RECOVERED_S
    assert len({one.text for one in again}) == 1
    assert len({(await client.status())["process"] for client in clients} - {process}) == 1
    for client in clients[1:]:
        await client.close()
    await clients[0].stop_host()
    await clients[0].close()


async def test_a_thousand_requests_at_once_are_each_answered(
    engine: HostEngine, request_for: GenerateRequest
) -> None:
    right = await answer(engine, request_for)
    given = await asyncio.gather(*(outcome(engine, request_for) for _ in range(1000)))
    answered = [one for one in given if isinstance(one, Finished)]
    refused = [str(one) for one in given if isinstance(one, FlexAssistError)]
    assert len(answered) >= connection.MAX_REQUESTS
    assert {one.text for one in answered} == {right.text}
    assert all("too many requests at once" in one for one in refused)
    # The worker ends its last job just after the answer.
    await until(lambda status: not status["requests"] + status["queue"]["completion"], engine)


async def test_a_thousand_requests_that_supersede_one_another(
    engine: HostEngine, request_for: GenerateRequest
) -> None:
    right = await answer(engine, request_for)
    last: asyncio.Task[Finished] | None = None
    for _ in range(1000):
        if last is not None:
            last.cancel()
        last = asyncio.create_task(answer(engine, request_for))
        await asyncio.sleep(0.001)
    assert last is not None
    assert (await last).text == right.text
    status = await until(lambda status: not status["requests"], engine)
    assert status["queue"]["completion"] == 0
    assert len(status["contexts"]) == 1


async def test_one_client_too_many_is_told_so_at_once(
    engine: HostEngine, locations: Locations, settings: EngineSettings
) -> None:
    await engine.status()
    place = rendezvous(locations)
    held = [await place.connect() for _ in range(MAX_CONNECTIONS - 1)]
    await until(lambda status: status["connections"] == MAX_CONNECTIONS, engine)
    began_s = time.monotonic()
    with pytest.raises(EngineError, match="too many programs"):
        await HostEngine(locations, settings).status()
    assert time.monotonic() - began_s < RECOVERED_S
    for _, writer in held:
        writer.close()
    await until(lambda status: status["connections"] == 1, engine)
    other = HostEngine(locations, settings)
    assert (await other.status())["process"] == (await engine.status())["process"]
    await other.close()


async def test_a_socket_of_a_dead_process_is_replaced(
    engine: HostEngine, locations: Locations, request_for: GenerateRequest
) -> None:
    place = rendezvous(locations)
    place.prepare()
    dead = await asyncio.start_unix_server(lambda *_: None, str(place.socket))
    # Closed without removing it, as a process that is killed does.
    for server_socket in dead.sockets:
        os.close(os.dup(server_socket.fileno()))
    place.token_file.write_text("0" * 64)
    saved = place.socket.with_suffix(".saved")
    os.link(place.socket, saved)
    dead.close()
    await dead.wait_closed()
    place.socket.unlink(missing_ok=True)
    saved.rename(place.socket)
    assert place.identity() is not None
    assert (await answer(engine, request_for)).completion_tokens > 0


async def test_a_model_replaced_by_a_rename_is_served_anew_and_held_once(
    engine: HostEngine, request_for: GenerateRequest, model: Path,
    cut_starter: Callable[[int], Path],
) -> None:  # fmt: skip
    await answer(engine, request_for)
    part = Path(shutil.copy(cut_starter(3), model.with_suffix(".part")))
    part.rename(model)
    after = await answer(engine, request_for)
    assert after.reused_tokens == 0
    (held,) = (await engine.status())["models"]
    fresh = dataclasses.replace(request_for, weights=Weights(model=cut_starter(3)))
    assert after.text == (await answer(engine, fresh)).text
    assert held["path"] == str(model)


async def test_a_model_overwritten_in_place_costs_no_more_than_an_answer(
    engine: HostEngine, request_for: GenerateRequest, model: Path,
    cut_starter: Callable[[int], Path],
) -> None:  # fmt: skip
    await answer(engine, request_for)
    whole = cut_starter(3).read_bytes()
    with model.open("r+b") as file:
        file.truncate(len(whole) // 2)
        file.write(whole[: len(whole) // 2])
    damaged = await outcome(engine, request_for)
    assert isinstance(damaged, ModelError)
    model.write_bytes(whole)
    began_s = time.monotonic()
    assert (await answer(engine, request_for)).completion_tokens > 0
    assert time.monotonic() - began_s < RECOVERED_S


async def test_the_host_says_that_it_works_and_training_waits(
    engine: HostEngine, locations: Locations, starter: Path
) -> None:
    busy = rendezvous(locations).busy_file
    await engine.status()
    assert not busy.exists()
    slow = GenerateRequest(weights=Weights(model=starter), tokens=(100,) * 20, max_tokens=200)
    stream = engine.generate(slow)
    await anext(stream)
    # Longer than one sign of life counts.
    for _ in range(4):
        await asyncio.sleep(0.2)
        waited_s = await asyncio.to_thread(giving_way.wait, busy, 0.05)
        assert waited_s >= 0.05
    with contextlib.suppress(EngineError):
        await stream.aclose()
    began_s = time.monotonic()
    await asyncio.to_thread(giving_way.wait, busy)
    assert time.monotonic() - began_s < giving_way.FRESH_S + giving_way.RENEW_EVERY_S + 0.2


async def test_a_hung_host_is_ended_by_force(
    engine: HostEngine, request_for: GenerateRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "HELLO_TIMEOUT_S", 0.5)
    process = psutil.Process((await engine.status())["process"])
    process.suspend()
    assert await engine.stop_host()
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    await engine.close()
    assert (await answer(engine, request_for)).completion_tokens


def halt_before(monkeypatch: pytest.MonkeyPatch, method: str, process: psutil.Process) -> None:
    """Halt the host as soon as a client calls this method of its link."""
    plain = getattr(link.Link, method)

    def late(self: link.Link, message: dict[str, Any]) -> Any:
        process.suspend()
        return plain(self, message)

    monkeypatch.setattr(link.Link, method, late)


async def test_a_host_that_does_not_end_is_ended_by_force(
    engine: HostEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says hello, and hangs then."""
    monkeypatch.setattr("flex_assist.engine.client.STOP_TIMEOUT_S", 0.5)
    process = psutil.Process((await engine.status())["process"])
    halt_before(monkeypatch, "tell", process)
    assert await engine.stop_host()
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


async def test_a_host_whose_end_nobody_notes_is_ended_too(
    engine: HostEngine, locations: Locations, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays in the table of processes."""
    process = psutil.Process((await engine.status())["process"])
    monkeypatch.setattr(psutil.Process, "status", lambda self: psutil.STATUS_ZOMBIE)
    monkeypatch.setattr(psutil.Process, "is_running", lambda self: True)
    assert rendezvous(locations).process() == process.pid
    assert kill_host(process.pid)


async def test_the_status_of_a_host_that_hangs(
    engine: HostEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "QUIET_S", 0.1)
    monkeypatch.setattr(link, "HELLO_TIMEOUT_S", 0.3)
    process = psutil.Process((await engine.status())["process"])
    halt_before(monkeypatch, "ask", process)
    with pytest.raises(EngineError, match="does not answer"):
        await engine.host_status()
    process.resume()


async def test_nothing_but_a_host_is_ended_by_force() -> None:
    with pytest.raises(EngineError, match="end its process by hand"):
        kill_host(os.getpid())
    with pytest.raises(EngineError, match="end its process by hand"):
        kill_host(None)


async def test_a_client_that_reads_no_more_is_given_up(
    locations: Locations, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its answer would be computed for nobody, and the host could never go to sleep."""
    monkeypatch.setattr(connection, "READ_TIMEOUT_S", 0.3)
    ended = asyncio.Event()

    class Endless:
        async def generate(self, request: GenerateRequest) -> AsyncIterator[Piece]:
            try:
                while True:
                    yield Piece(text="x" * 100_000)
            finally:
                ended.set()

    service = connection.Service(
        engine=cast(Any, Endless()), token="t", activity=connection.Activity(),
        describe=dict, stop=ended.set, retire=ended.set,
    )  # fmt: skip

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await connection.Connection(service, reader, writer).serve()

    server = await asyncio.start_unix_server(serve, str(tmp_path / "s"))
    _, writer = await asyncio.open_unix_connection(str(tmp_path / "s"), limit=1)
    hello = {"op": "hello", "protocol": PROTOCOL_VERSION, "version": "1", "token": "t"}
    request = GenerateRequest(weights=Weights(model=tmp_path / "m"), tokens=(1,), max_tokens=1)
    writer.write(wire.frame(hello))
    writer.write(wire.frame({"op": "generate", "id": 1, **wire.pack_request(request)}))
    try:
        async with asyncio.timeout(5):
            await ended.wait()
            while service.activity.requests:
                await asyncio.sleep(0.01)
    finally:
        writer.close()
        server.close()
