"""Greeting a host."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from flex_assist.engine import link, wire
from flex_assist.engine.protocol import PROTOCOL_VERSION
from flex_assist.engine.rendezvous import Serve


class Place:
    """Where a process listens."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def connect(self) -> Any:
        return await asyncio.open_unix_connection(str(self._path))

    def token(self) -> str:
        return "token"

    def process(self) -> int:
        return 4711


async def test_a_host_that_hangs_is_not_taken_for_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under SIGSTOP: it takes the connection, and says nothing."""
    monkeypatch.setattr(link, "HELLO_TIMEOUT_S", 0.1)
    over = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()
        writer.close()

    path = tmp_path / "s"
    server = await asyncio.start_unix_server(silent, str(path))
    try:
        with pytest.raises(link.SilentError, match="does not answer") as found:
            await link.greet(Place(path))  # type: ignore[arg-type]
        assert found.value.process == 4711
    finally:
        over.set()
        server.close()


@contextlib.asynccontextmanager
async def greeted(serve: Serve, folder: Path) -> AsyncIterator[link.Link]:
    """A link to a host that does this."""
    server = await asyncio.start_unix_server(serve, str(folder / "s"))
    try:
        found = await link.greet(Place(folder / "s"))  # type: ignore[arg-type]
        assert found is not None
        yield found
        await found.close()
    finally:
        server.close()


def read_no_more(found: link.Link) -> None:
    """As if the loop were blocked."""
    transport = found._writer.transport
    assert isinstance(transport, asyncio.ReadTransport)
    transport.pause_reading()


async def ends_politely(found: link.Link, operation: str) -> bool:
    with pytest.raises(link.Gone) as gone:
        await anext(found.ask({"op": operation}))
    return gone.value.politely


async def test_what_is_asked_of_a_host_that_is_gone_is_asked_again(tmp_path: Path) -> None:
    """The goodbye came while this program was busy: it is lost as soon as something is written."""

    async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await wire.read(reader)
        writer.write(wire.frame({"ok": True, "protocol": PROTOCOL_VERSION, "version": "1"}))
        await wire.read(reader)
        writer.write(wire.frame({"bye": True}))
        writer.close()

    async with greeted(leave, tmp_path) as found:
        found.tell({"op": "now"})
        read_no_more(found)
        await asyncio.sleep(0.1)
        assert await ends_politely(found, "status")


async def test_a_host_with_a_full_queue_is_not_taken_for_none() -> None:
    class Full(Place):
        async def connect(self) -> Any:
            raise BlockingIOError

    with pytest.raises(link.SilentError):
        await link.greet(Full(Path()))  # type: ignore[arg-type]


async def test_what_a_host_died_of_is_not_asked_again(tmp_path: Path) -> None:
    """Only what was written last can have come too late."""
    begun = asyncio.Event()

    async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await wire.read(reader)
        writer.write(wire.frame({"ok": True, "protocol": PROTOCOL_VERSION, "version": "1"}))
        await wire.read(reader)
        begun.set()
        writer.close()

    async with greeted(die, tmp_path) as found:
        poison = asyncio.create_task(ends_politely(found, "poison"))
        await asyncio.sleep(0)
        read_no_more(found)
        await begun.wait()
        await asyncio.sleep(0.1)
        late = asyncio.create_task(ends_politely(found, "late"))
        assert not await poison
        assert await late


async def silent_after_hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    hello = {"ok": True, "protocol": PROTOCOL_VERSION, "version": "1", "process": 4711}
    await wire.read(reader)
    writer.write(wire.frame(hello))
    await reader.read()
    writer.close()


async def test_a_host_that_hangs_later_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "QUIET_S", 0.05)
    monkeypatch.setattr(link, "HELLO_TIMEOUT_S", 0.2)
    async with greeted(silent_after_hello, tmp_path) as found, asyncio.timeout(5):
        with pytest.raises(link.SilentError, match="does not answer") as silent:
            await anext(found.ask({"op": "generate"}))
        assert silent.value.process == 4711
        await found.wait_closed()
        assert not found.open


async def test_a_host_that_works_for_long_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says nothing of the request, but answers when it is asked for its status."""
    monkeypatch.setattr(link, "QUIET_S", 0.02)
    monkeypatch.setattr(link, "HELLO_TIMEOUT_S", 0.2)

    async def works(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await wire.read(reader)
        writer.write(wire.frame({"ok": True, "protocol": PROTOCOL_VERSION, "version": "1"}))
        request, asked = await wire.read(reader), 0
        while asked < 20 and (message := await wire.read(reader)) is not None:
            assert message["op"] == "status"
            writer.write(wire.frame({"id": message["id"], "result": {}}))
            asked += 1
        assert request is not None
        writer.write(wire.frame({"id": request["id"], "result": True}))
        await reader.read()
        writer.close()

    async with greeted(works, tmp_path) as found, asyncio.timeout(5):
        assert (await anext(found.ask({"op": "generate"})))["result"] is True


async def test_a_host_that_reads_no_more_keeps_nobody_from_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under SIGSTOP: what was written to it stays in the buffers."""
    monkeypatch.setattr(link, "QUIET_S", 0.05)
    monkeypatch.setattr(link, "HELLO_TIMEOUT_S", 0.2)
    monkeypatch.setattr(link, "CLOSE_TIMEOUT_S", 0.2)
    over = asyncio.Event()

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await wire.read(reader)
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(wire.frame({"ok": True, "protocol": PROTOCOL_VERSION, "version": "1"}))
        await over.wait()
        writer.close()

    message = {"op": "tokenize", "pad": "x" * 4_000_000}
    try:
        async with greeted(deaf, tmp_path) as found, asyncio.timeout(3):
            with pytest.raises(link.SilentError):
                await anext(found.ask(message))
            await found.close()
        async with greeted(deaf, tmp_path) as found, asyncio.timeout(3):
            found.tell(message)
            await found.close()
    finally:
        over.set()


async def test_a_host_that_ends_when_it_is_asked_whether_it_is_there_does_not_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "QUIET_S", 0.05)

    async def dies(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await wire.read(reader)
        writer.write(wire.frame({"ok": True, "protocol": PROTOCOL_VERSION, "version": "1"}))
        for _ in ("request", "status"):
            await wire.read(reader)
        writer.close()

    async with greeted(dies, tmp_path) as found, asyncio.timeout(2):
        assert not await ends_politely(found, "generate")
