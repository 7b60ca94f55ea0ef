"""What goes over the engine host's socket: frames, messages, and how our records look in them.

A frame is a length (4 bytes, big endian) and a msgpack map. The client speaks first:
``{"op": "hello", "protocol", "version", "token"}``; this frame, its answer and ``retire`` never
change, so that any two versions can tell each other apart. Then each request carries an ``id`` and
is answered by any number of ``{"id", "item"}`` and at last one ``{"id", "result"}`` or
``{"id", "error": {"kind", "message"}}``. ``{"op": "cancel", "id"}`` has no answer of its own.
``{"bye": true}`` from the host: it goes, and has not begun what it has not answered.
"""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import msgpack  # type: ignore[import-untyped]

from flex_assist.engine.protocol import (
    Finished,
    GenerateRequest,
    ModelFacts,
    Piece,
    Priority,
    TextPiece,
    Weights,
)
from flex_assist.errors import (
    BusyError,
    Cancelled,
    ConfigError,
    DataError,
    EngineError,
    FlexAssistError,
    ModelError,
)

MAX_FRAME_BYTES: Final = 16 * 1024 * 1024
# Before the token is known to be right, nobody gets to send more than this.
MAX_HELLO_BYTES: Final = 4096
_LENGTH_BYTES: Final = 4
_KINDS: Final = {
    kind.__name__: kind
    for kind in (EngineError, ModelError, Cancelled, BusyError, ConfigError, DataError)
}

Value = TypeVar("Value")


class FrameError(Exception):
    """What arrived is no frame; the connection cannot go on."""


def frame(message: Mapping[str, Any]) -> bytes:
    """The bytes of a message.

    Raises:
        EngineError: It is too large.
    """
    body: bytes = msgpack.packb(dict(message), use_bin_type=True, unicode_errors="replace")
    if len(body) > MAX_FRAME_BYTES:
        raise EngineError(
            f"a message of {len(body)} bytes is too large for the engine host "
            f"(at most {MAX_FRAME_BYTES}); send less text"
        )
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


async def read(
    reader: asyncio.StreamReader, limit_bytes: int = MAX_FRAME_BYTES
) -> dict[str, Any] | None:
    """The next message; None at the end of the stream.

    Raises:
        FrameError: The bytes are not a frame.
    """
    try:
        length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES), "big")
        if length > limit_bytes:
            raise FrameError(f"a frame of {length} bytes is announced")
        body = await reader.readexactly(length)
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise FrameError("the stream ends within a frame") from error
        return None
    except ConnectionError:
        return None
    return decode(body)


def decode(body: bytes) -> dict[str, Any]:
    """The message in a frame's body.

    Raises:
        FrameError: It is no msgpack map with texts for keys.
    """
    try:
        message = msgpack.unpackb(body, raw=False, strict_map_key=True, ext_hook=_refuse)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise FrameError(f"a frame is not msgpack: {error!r}") from error
    if not isinstance(message, dict) or not all(isinstance(key, str) for key in message):
        raise FrameError(f"a frame holds a {type(message).__name__}, not a map of texts")
    return message


def field(message: Mapping[str, Any], key: str, kind: type[Value]) -> Value:
    """A value of a message, which must be exactly of this type.

    Raises:
        EngineError: It is absent or of another type.
    """
    value = message.get(key)
    if type(value) is not kind:
        raise EngineError(
            f"{key!r} of a request is {type(value).__name__}, not {kind.__name__}; "
            "is the client of the same version?"
        )
    return value


def items(message: Mapping[str, Any], key: str, kind: type[Value]) -> tuple[Value, ...]:
    """A list in a message, all of one type.

    Raises:
        EngineError: It is something else.
    """
    values = field(message, key, list)
    if not all(type(value) is kind for value in values):
        raise EngineError(f"{key!r} of a request must hold only {kind.__name__}")
    return tuple(values)


def pack_error(error: FlexAssistError) -> dict[str, str]:
    """An error as plain data."""
    kind = next((name for name, known in _KINDS.items() if type(error) is known), "EngineError")
    return {"kind": kind, "message": str(error)}


def unpack_error(data: object) -> FlexAssistError:
    """An error from plain data; never fails."""
    if not isinstance(data, dict):
        return EngineError(f"the engine host gave an unknown answer: {data!r}")
    kind = _KINDS.get(str(data.get("kind")), EngineError)
    return kind(str(data.get("message", "the engine host failed")))


def pack_path(path: Path) -> bytes:
    """A path as the bytes that the system knows it by. Relative ones count from here."""
    return os.fsencode(path.absolute())


def unpack_path(message: Mapping[str, Any], key: str) -> Path:
    """A path of a message.

    Raises:
        EngineError: It is not absolute.
    """
    return _path(field(message, key, bytes))


def pack_weights(weights: Weights) -> dict[str, Any]:
    """Weights as plain data."""
    return {
        "model": pack_path(weights.model),
        "adapters": [pack_path(adapter) for adapter in weights.adapters],
        "merged": pack_path(weights.merged) if weights.merged is not None else None,
    }


def unpack_weights(message: Mapping[str, Any]) -> Weights:
    """Weights from plain data."""
    data = field(message, "weights", dict)
    return Weights(
        model=unpack_path(data, "model"),
        adapters=tuple(_path(one) for one in items(data, "adapters", bytes)),
        merged=unpack_path(data, "merged") if data.get("merged") is not None else None,
    )


def pack_request(request: GenerateRequest) -> dict[str, Any]:
    """A request as plain data."""
    return {
        "weights": pack_weights(request.weights),
        "tokens": list(map(int, request.tokens)),
        "max_tokens": request.max_tokens,
        "heal": request.heal,
        "forced": request.forced,
        "stop_ids": list(request.stop_ids),
        "stop_texts": list(request.stop_texts),
        "temperature": float(request.temperature),
        "top_p": float(request.top_p),
        "seed": request.seed,
        "priority": int(request.priority),
        "document": request.document,
        "ahead": request.ahead,
    }


def unpack_request(message: Mapping[str, Any]) -> GenerateRequest:
    """A request from plain data."""
    priority, seed = field(message, "priority", int), field(message, "seed", int)
    if priority not in tuple(Priority) or seed < 0:
        raise EngineError(f"priority {priority!r} or seed {seed!r} of a request is out of range")
    return GenerateRequest(
        weights=unpack_weights(message),
        tokens=items(message, "tokens", int),
        max_tokens=field(message, "max_tokens", int),
        heal=field(message, "heal", bool),
        forced=field(message, "forced", bytes),
        stop_ids=items(message, "stop_ids", int),
        stop_texts=items(message, "stop_texts", str),
        temperature=field(message, "temperature", float),
        top_p=field(message, "top_p", float),
        seed=seed,
        priority=Priority(priority),
        document=field(message, "document", str),
        ahead=field(message, "ahead", bool),
    )


def pack_item(item: Piece | Finished) -> dict[str, Any]:
    """A part of an answer as plain data."""
    return {name: getattr(item, name) for name in type(item).__slots__}


def unpack_item(data: Mapping[str, Any]) -> Piece | Finished:
    """A part of an answer from plain data."""
    if "reason" in data:
        return _record(Finished, data)
    return _record(Piece, data)


def pack_facts(facts: ModelFacts) -> dict[str, Any]:
    """Facts as plain data."""
    return {name: getattr(facts, name) for name in ModelFacts.__slots__}


def unpack_facts(data: Mapping[str, Any]) -> ModelFacts:
    """Facts from plain data."""
    lists = {key: tuple(value) for key, value in data.items() if isinstance(value, list)}
    return _record(ModelFacts, {**data, **lists})


def unpack_pieces(message: Mapping[str, Any]) -> list[TextPiece]:
    """Texts to tokenize from plain data."""
    pieces = items(message, "pieces", dict)
    return [
        TextPiece(text=field(piece, "text", str), special=field(piece, "special", bool))
        for piece in pieces
    ]


def _path(data: bytes) -> Path:
    path = Path(os.fsdecode(data))
    if not path.is_absolute() or b"\0" in data:
        raise EngineError(f"the path {str(path)!r} of a request is not absolute")
    return path


def _record(kind: type[Value], data: Mapping[str, Any]) -> Value:
    try:
        return kind(**data)
    except TypeError as error:
        raise EngineError(f"the engine host gave an unknown answer: {error}") from error


def _refuse(code: int, data: bytes) -> object:
    raise ValueError(f"type {code} is not known")
