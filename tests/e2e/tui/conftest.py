"""The real application over a scripted engine: what is shown does not depend on a model."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from textual.pilot import Pilot

from flex_assist.chat.conversations import Conversations
from flex_assist.chat.service import ChatService
from flex_assist.chat.session import Session
from flex_assist.config import ModelSettings, Settings
from flex_assist.engine.protocol import (
    Finished,
    GenerateRequest,
    ModelFacts,
    Piece,
    TextPiece,
    Weights,
)
from flex_assist.locations import Locations
from flex_tui.app import ChatApp

# 2026-03-01 12:00 UTC: what is stored bears this time, so that pictures are the same each day.
NOON = 1_772_366_400.0
DEADLINE_S = 15.0


class ScriptedEngine:
    """Answers with ``pieces``; waits at the gate before the piece of that number."""

    def __init__(self) -> None:
        self.pieces: list[str] = ["Yes."]
        self.gate_at: int | None = None
        self.gate = asyncio.Event()
        self.fail_at: int | None = None
        self.error: Exception | None = None
        self.warm_error: Exception | None = None
        self.requests: list[GenerateRequest] = []
        self.closed = 0

    async def facts(self, model: Path) -> ModelFacts:
        return ModelFacts(
            architecture="llama", context_tokens=8192, vocabulary=300, fim_ids=None,
            end_ids=(0,), bos_id=None, chat_template=None,
        )  # fmt: skip

    async def tokenize(self, model: Path, pieces: Sequence[TextPiece]) -> list[list[int]]:
        # Four characters a token, as real vocabularies have it on the average.
        return [[1] * -(-len(piece.text) // 4) for piece in pieces]

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Piece | Finished, None]:
        self.requests.append(request)
        try:
            for index, text in enumerate(self.pieces):
                if index == self.gate_at:
                    await self.gate.wait()
                if index == self.fail_at and self.error is not None:
                    raise self.error
                yield Piece(text=text)
            yield Finished(
                text="".join(self.pieces), reason="end", prompt_tokens=len(request.tokens),
                reused_tokens=0, completion_tokens=24, queue_ms=0, prefill_ms=100, decode_ms=500,
            )  # fmt: skip
        finally:
            self.closed += 1

    async def warm(self, weights: Weights) -> None:
        if self.warm_error is not None:
            raise self.warm_error

    async def status(self) -> dict[str, Any]:
        return {}

    async def close(self) -> None:
        return None


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine()


@pytest.fixture
def locations(tmp_path: Path) -> Locations:
    home = tmp_path / "home"
    return Locations(
        config=home / "config", data=home / "data", cache=home / "cache", runtime=home / "run"
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "orchard"
    for name, text in {
        "src/trees.py": "def plant(kind):\n    return f'a young {kind}'\n",
        "src/water.go": "package water\n",
        "README.md": "# Orchard\n",
        "my notes.md": "note\n",
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture
def store(locations: Locations) -> Iterator[Conversations]:
    ticks = iter(range(1, 100_000))
    with Conversations(locations.conversations, clock=lambda: NOON + next(ticks)) as opened:
        yield opened


@pytest.fixture
def service(
    engine: ScriptedEngine, locations: Locations, root: Path, tmp_path: Path
) -> ChatService:
    path = tmp_path / "tiny.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tensor("token_embd.weight", np.zeros((2, 32), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return ChatService(engine, Settings(model=ModelSettings(base=str(path))), locations, root)


@pytest.fixture
def session(store: Conversations, root: Path) -> Session:
    return Session(store, str(root))


@pytest.fixture
def app(service: ChatService, session: Session) -> ChatApp:
    return ChatApp(service, session)


@pytest.fixture
def notices(app: ChatApp) -> Callable[[], list[str]]:
    """What the person was told so far, once each time it was said."""
    return lambda: [notice.message for notice in app._notifications]


@pytest.fixture
def until() -> Callable[..., Any]:
    """``await until(pilot, condition)``: give the application time, but not for ever."""

    async def wait(pilot: Pilot[None], condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, "it did not happen in time"
            await pilot.pause(0.02)
        await pilot.pause()

    return wait


@pytest.fixture
def type_text() -> Callable[..., Any]:
    """``await type_text(pilot, "text")``: key by key, as a person does."""

    async def write(pilot: Pilot[None], text: str) -> None:
        for character in text:
            await pilot.press("space" if character == " " else character)
        await pilot.pause()

    return write
