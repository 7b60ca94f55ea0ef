"""Greeting a host."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from flex_assist.engine import link, wire
from flex_assist.engine.protocol import PROTOCOL_VERSION
from flex_assist.errors import EngineError


class Place:
    """Where a process listens."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def connect(self) -> Any:
        return await asyncio.open_unix_connection(str(self._path))

    def token(self) -> str:
        return "token"


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
        with pytest.raises(EngineError, match="does not answer"):
            await link.greet(Place(path))  # type: ignore[arg-type]
    finally:
        over.set()
        server.close()


async def test_what_is_asked_of_a_host_that_is_gone_is_asked_again(tmp_path: Path) -> None:
    """The goodbye came while this program was busy: it is lost as soon as something is written."""

    async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await wire.read(reader)
        writer.write(wire.frame({"ok": True, "protocol": PROTOCOL_VERSION, "version": "1"}))
        await wire.read(reader)
        writer.write(wire.frame({"bye": True}))
        writer.close()

    path = tmp_path / "s"
    server = await asyncio.start_unix_server(leave, str(path))
    try:
        found = await link.greet(Place(path))  # type: ignore[arg-type]
        assert found is not None
        found.tell({"op": "now"})
        transport = found._writer.transport
        assert isinstance(transport, asyncio.ReadTransport)
        # As if the loop were blocked: nothing is read.
        transport.pause_reading()
        await asyncio.sleep(0.1)
        with pytest.raises(link.Gone) as gone:
            await anext(found.ask({"op": "status"}))
        assert gone.value.politely
        await found.close()
    finally:
        server.close()
