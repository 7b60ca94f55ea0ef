"""Greeting a host."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from flex_assist.engine import link
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
