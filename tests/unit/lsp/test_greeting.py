"""The early answer to ``initialize`` is the one that the server gives."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from flex_assist.locations import Locations
from flex_lsp.greeting import greet
from flex_lsp.server import FlexServer
from flex_lsp.streams import Streams

INLINE = {"textDocument": {"inlineCompletion": {"dynamicRegistration": False}}}
OFFERS: list[dict[str, Any]] = [
    {"capabilities": {}},
    {"capabilities": INLINE},
    {"capabilities": INLINE, "initializationOptions": {"completionMenu": "always"}},
    {"capabilities": {}, "initializationOptions": {"flexAssist": {"completionMenu": "never"}}},
    {"capabilities": {}, "initializationOptions": "nonsense"},
    {"capabilities": {"general": {"positionEncodings": ["utf-7", "utf-32", "utf-8"]}}},
    {"capabilities": {"general": {"positionEncodings": ["utf-8", "utf-16"]}}},
    {"capabilities": {"general": {"positionEncodings": []}}},
    {"capabilities": {"general": {}, "textDocument": {}, "window": {}, "experimental": [1]}},
]


class Wire:
    """Takes what a server writes."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []

    def write(self, data: bytes) -> None:
        self.messages.append(json.loads(data.split(b"\r\n\r\n", 1)[1]))

    def close(self) -> None:
        pass


def initialize(params: dict[str, Any]) -> bytes:
    message = {"jsonrpc": "2.0", "id": 7, "method": "initialize", "params": params}
    return json.dumps(
        {**message, "params": {"processId": None, "rootUri": None, **params}}
    ).encode()


def answered_early(body: bytes) -> tuple[list[dict[str, Any]], bool]:
    """What is written, and whether the first message counts as answered."""
    written = io.BytesIO()
    framed = b"content-length: %d\r\nContent-Type: x\r\n\r\n%s" % (len(body), body)
    first = greet(Streams(read=io.BytesIO(framed + b"the next"), write=written))
    assert first.body == body
    wire = Wire()
    if written.getvalue():
        wire.write(written.getvalue())
    return wire.messages, first.answered


def answered_by_the_server(body: bytes, tmp_path: Path, *, answered: bool) -> list[dict[str, Any]]:
    places = {name: tmp_path / name for name in ("config", "data", "cache", "runtime")}
    # Nothing of the backend is needed before `initialized`.
    server = FlexServer(Locations(**places), None)  # type: ignore[arg-type]
    wire = Wire()
    server.protocol.set_writer(wire)
    server.protocol.receive(body, answered=answered)
    return wire.messages


@pytest.mark.parametrize("params", OFFERS)
def test_both_answers_are_the_same(params: dict[str, Any], tmp_path: Path) -> None:
    body = initialize(params)
    early, answered = answered_early(body)
    assert answered
    assert early == answered_by_the_server(body, tmp_path, answered=False)
    assert answered_by_the_server(body, tmp_path, answered=True) == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"[" * 100_000,
        b'{"jsonrpc": "2.0", "id": 1, "method": "shutdown"}',
        b'{"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": []}',
        b'{"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"capabilities": 1}}',
        b'{"jsonrpc": "2.0", "method": "initialize", "params": {"capabilities": {}}}',
    ],
)
def test_anything_else_is_left_to_the_server(body: bytes, tmp_path: Path) -> None:
    assert answered_early(body) == ([], False)
    answers = answered_by_the_server(body, tmp_path, answered=False)
    assert all("error" in answer for answer in answers)
