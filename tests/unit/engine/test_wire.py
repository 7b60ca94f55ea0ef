"""Frames and messages: what is packed comes back, what is wrong is refused."""

import asyncio
import os
from pathlib import Path

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flex_assist.engine import wire
from flex_assist.engine.protocol import (
    Finished,
    GenerateRequest,
    ModelFacts,
    Piece,
    Priority,
    Weights,
)
from flex_assist.errors import Cancelled, EngineError, ModelError

REQUEST = GenerateRequest(
    weights=Weights(
        model=Path("/m/base.gguf"),
        adapters=(Path("/a/python.gguf"), Path("/a/shared.gguf")),
        merged=Path("/a/merged.gguf"),
    ),
    tokens=(1, 2, 3),
    max_tokens=5,
    forced=b" re\xff",
    stop_ids=(2,),
    stop_texts=("\n\n",),
    temperature=0.5,
    seed=3,
    priority=Priority.CHAT,
    document="/r/a.py",
    ahead=True,
)


def through(message: dict) -> dict:
    return wire.decode(wire.frame(message)[4:])


async def read_bytes(data: bytes, limit: int = wire.MAX_FRAME_BYTES) -> dict | None:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    return await wire.read(reader, limit)


def test_a_request_comes_back_as_it_was() -> None:
    assert wire.unpack_request(through(wire.pack_request(REQUEST))) == REQUEST


def test_a_path_that_is_no_text_comes_back() -> None:
    weights = Weights(model=Path(os.fsdecode(b"/m/\xff.gguf")))
    assert wire.unpack_weights(through({"weights": wire.pack_weights(weights)})) == weights


def test_items_and_facts_come_back() -> None:
    finished = Finished(
        text="x", reason="end", prompt_tokens=1, reused_tokens=0, completion_tokens=1,
        queue_ms=0.5, prefill_ms=1.0, decode_ms=2.0, form="merged",
    )  # fmt: skip
    facts = ModelFacts(
        architecture="llama", context_tokens=8, vocabulary=9, fim_ids=(1, 2, 3), end_ids=(2,),
        bos_id=None, chat_template="{{ x }}",
    )  # fmt: skip
    for item in (finished, Piece(text="é\ud800x")):
        back = wire.unpack_item(through(wire.pack_item(item)))
        assert type(back) is type(item)
    assert wire.unpack_item(through(wire.pack_item(finished))) == finished
    piece = Piece(text="x", form="adapter")
    assert wire.unpack_item(through(wire.pack_item(piece))) == piece
    assert wire.unpack_facts(through(wire.pack_facts(facts))) == facts


@pytest.mark.parametrize("error", [ModelError("m"), Cancelled("c"), EngineError("e")])
def test_errors_keep_their_kind_and_text(error: EngineError) -> None:
    back = wire.unpack_error(through(wire.pack_error(error)))
    assert (type(back), str(back)) == (type(error), str(error))


@pytest.mark.parametrize("data", [None, 3, {}, {"kind": "OSError", "message": 1}])
def test_an_error_that_is_none_still_becomes_one(data: object) -> None:
    assert type(wire.unpack_error(data)) is EngineError


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tokens", [1, "2"]),
        ("tokens", "12"),
        ("tokens", [True]),
        ("max_tokens", 1.5),
        ("max_tokens", True),
        ("forced", "text"),
        ("stop_texts", [b"x"]),
        ("temperature", 1),
        ("priority", 9),
        ("ahead", 1),
        ("document", None),
        ("seed", -1),
        ("weights", None),
        ("weights", {"model": "/text"}),
        ("weights", {"model": b"relative", "adapters": []}),
        ("weights", {"model": b"/m", "adapters": [b"relative"]}),
        ("weights", {"model": b"/m", "adapters": None}),
        ("weights", {"model": b"/m", "adapters": [], "merged": b"relative"}),
        ("weights", {"model": b"/nul\0", "adapters": []}),
    ],
)
def test_wrong_types_are_refused(key: str, value: object) -> None:
    with pytest.raises(EngineError):
        wire.unpack_request({**wire.pack_request(REQUEST), key: value})


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x05abc",
        b"\x00\x00\x00\x01\xc1",
        b"\x00\x00\x00\x01\x01",
        b"\x00\x00\x00\x02\x81\x01",
        b"\x00\x00",
        (4).to_bytes(4, "big") + msgpack.packb({1: 2}) + b"\0",
        (5).to_bytes(4, "big") + b"\x81\xa1a\xd4\x01",
        (20000).to_bytes(4, "big") + b"\x91" * 20000,
    ],
)
async def test_garbage_is_no_frame(data: bytes) -> None:
    with pytest.raises(wire.FrameError):
        await read_bytes(data)


async def test_the_end_between_frames_is_the_end() -> None:
    assert await read_bytes(b"") is None


async def test_a_limit_is_kept_before_anything_is_read() -> None:
    with pytest.raises(wire.FrameError, match="announced"):
        await read_bytes(wire.frame({"a": "x" * 100}), limit=50)


def test_a_message_too_large_is_refused_by_its_sender() -> None:
    with pytest.raises(EngineError, match="too large"):
        wire.frame({"a": b"x" * wire.MAX_FRAME_BYTES})


@given(st.binary(max_size=200))
def test_any_bytes_are_a_map_or_a_frame_error(body: bytes) -> None:
    try:
        message = wire.decode(body)
    except wire.FrameError:
        return
    assert isinstance(message, dict)
