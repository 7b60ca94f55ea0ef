"""A server that answers as it is told to, byte by byte, and keeps what it was asked."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

Writer = asyncio.StreamWriter
Behaviour = Callable[[Writer], Awaitable[None]]


@dataclass
class Asked:
    """One request, as it came."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass
class StandIn:
    """Speaks HTTP on this machine only.

    Attributes:
        behaviours: What the next requests for a completion get, the last one for ever.
        tokens: What ``/tokenize`` answers; None: there is no such path.
        others: What further paths answer.
        key: The only one that it takes; empty: any, or none.
        hung_up: Set when a client hangs up while an answer is going on.
    """

    behaviours: list[Behaviour] = field(default_factory=list)
    models: list[dict[str, Any]] = field(default_factory=lambda: [{"id": "cut"}])
    tokens: list[int] | None = None
    others: dict[str, Any] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    key: str = ""
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""

    @property
    def completions(self) -> list[Asked]:
        return [one for one in self.asked if one.path.endswith(("/completions", "/completion"))]

    async def start(self) -> asyncio.Server:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        return server

    async def _serve(self, reader: asyncio.StreamReader, writer: Writer) -> None:
        self.connections += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while (asked := await _read(reader)) is not None:
                self.asked.append(asked)
                await self._answer(asked, reader, writer)
        writer.close()

    async def _answer(self, asked: Asked, reader: asyncio.StreamReader, writer: Writer) -> None:
        if self.key and asked.headers.get("authorization") != f"Bearer {self.key}":
            await whole(401, {"message": "no"})(writer)
        elif asked.path == "/v1/models":
            await whole(200, {"data": self.models})(writer)
        elif asked.path == "/tokenize":
            known = self.tokens is not None
            await whole(200 if known else 404, {"tokens": self.tokens})(writer)
        elif asked.path in self.others:
            await whole(200, self.others[asked.path])(writer)
        else:
            behaviour = self.behaviours.pop(0) if len(self.behaviours) > 1 else self.behaviours[0]
            answering = asyncio.ensure_future(behaviour(writer))
            ended = asyncio.ensure_future(reader.read(1))
            await asyncio.wait((answering, ended), return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                self.hung_up.set()
                answering.cancel()
            ended.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                await asyncio.gather(answering, ended)
            writer.close()


async def _read(reader: asyncio.StreamReader) -> Asked | None:
    line = (await reader.readline()).decode()
    if not line:
        return None
    headers = {}
    while row := (await reader.readline()).decode().strip():
        name, _, value = row.partition(":")
        headers[name.lower()] = value.strip()
    data = await reader.readexactly(int(headers.get("content-length", "0")))
    return Asked(path=line.split()[1], headers=headers, body=json.loads(data) if data else {})


def whole(status: int, value: object, *more: str) -> Behaviour:
    """One answer of JSON, with ``more`` headers."""
    data = json.dumps(value).encode()

    async def behave(writer: Writer) -> None:
        head = [f"HTTP/1.1 {status} So", f"Content-Length: {len(data)}", *more, "", ""]
        writer.write("\r\n".join(head).encode() + data)
        await writer.drain()

    return behave


def stream(*parts: object, content_type: str = "text/event-stream") -> Behaviour:
    """Events: dicts as JSON, bytes as they are, numbers are seconds to wait, and then the end."""

    async def behave(writer: Writer) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode())
        for part in parts:
            if isinstance(part, int | float):
                await asyncio.sleep(part)
                continue
            writer.write(part if isinstance(part, bytes) else event(part))
            await writer.drain()

    return behave


def event(value: object) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def text(value: str, finish: str | None = None, **more: object) -> dict[str, Any]:
    """An event with a piece of text."""
    return {"choices": [{"text": value, "finish_reason": finish, **more}]}


DONE = b"data: [DONE]\n\n"


async def silent(writer: Writer) -> None:
    """Takes the request and never says a word."""
    await asyncio.sleep(3600)


async def cut(writer: Writer) -> None:
    """Hangs up without a word."""
    writer.close()
