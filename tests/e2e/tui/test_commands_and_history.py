"""Slash commands, the history and the help, on the real application."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, OptionList

from flex_assist.chat.conversations import Conversations, Message
from flex_tui.app import ChatApp
from flex_tui.screens.help import HelpScreen
from flex_tui.screens.history import HistoryScreen
from flex_tui.widgets.prompt import Prompt
from flex_tui.widgets.status_line import AdapterLabel
from flex_tui.widgets.transcript import Question, Reply

Until = Callable[[Pilot[None], Callable[[], object]], Awaitable[None]]
Notices = Callable[[], list[str]]


def running(app: ChatApp, width: int = 100) -> Any:
    return app.run_test(size=(width, 30), notifications=True)


async def send(pilot: Pilot[None], text: str) -> None:
    pilot.app.screen.query_one(Prompt).put(text)
    await pilot.press("enter")
    await pilot.pause()


async def ask(app: ChatApp, pilot: Pilot[None], until: Until, text: str) -> None:
    count = len(app.screen.query(Reply))
    await send(pilot, text)
    await until(pilot, lambda: len(app.screen.query(Reply)) > count and not app.screen.is_answering)


def questions(app: ChatApp) -> list[str]:
    return [question.text for question in app.screen_stack[0].query(Question)]


def fill(store: Conversations, repository: str, *texts: str) -> list[int]:
    ids = []
    for text in texts:
        made = store.create(repository, text)
        store.append(made.id, Message(role="user", text=text))
        store.append(made.id, Message(role="assistant", text=f"About {text}.", adapter="base"))
        ids.append(made.id)
    return ids


async def test_new_begins_another_conversation(app, store, until: Until) -> None:
    async with running(app) as pilot:
        await ask(app, pilot, until, "one")
        await send(pilot, "/new")
        await until(pilot, lambda: questions(app) == [])
        await ask(app, pilot, until, "two")
    assert [c.title for c in store.recent()] == ["two", "one"]


async def test_adapter_is_chosen_checked_and_remembered(
    app, session, store, until: Until, notices: Notices
) -> None:
    async with running(app) as pilot:
        await ask(app, pilot, until, "one")
        await send(pilot, "/adapter none")
        assert str(app.screen.query_one(AdapterLabel).content) == "adapter base"
        assert store.get(session.conversation.id).adapter == "none"
        await send(pilot, "/adapter rust")
        assert "no active adapter 'rust'" in notices()[-1]
        assert session.adapter == "none"
        assert app.screen.query_one(Prompt).text == "/adapter rust"


async def test_export_writes_a_new_file_only(
    app, until: Until, notices: Notices, tmp_path: Path
) -> None:
    path = tmp_path / "talk.md"
    async with running(app) as pilot:
        await send(pilot, f"/export {path}")
        assert "ask something first" in notices()[-1]
        await ask(app, pilot, until, "one")
        await send(pilot, f"/export {path}")
        text = path.read_text()
        assert text.startswith("# one\n")
        assert "Yes." in text
        await send(pilot, f"/export {path}")
        assert "exists: name another" in notices()[-1]
        await send(pilot, "/export ~nobody-of-this-name/x.md")
        assert "name another file" in notices()[-1]
        await send(pilot, f"/export {'x' * 300}")
        assert "name another file" in notices()[-1]
        assert path.read_text() == text


async def test_copy_takes_the_last_answer_or_its_code(
    app, engine, until: Until, notices: Notices
) -> None:
    engine.pieces = ["Do:\n```python\nx = 1\n```\n"]
    async with running(app) as pilot:
        await send(pilot, "/copy")
        assert "nothing to copy" in notices()[-1]
        await ask(app, pilot, until, "one")
        await send(pilot, "/copy")
        assert app.clipboard == engine.pieces[0]
        await send(pilot, "/copy code")
        assert app.clipboard == "x = 1\n"


async def test_theme_and_its_misspelling(app, notices: Notices) -> None:
    async with running(app) as pilot:
        await send(pilot, "/theme nord")
        assert app.theme == "nord"
        await send(pilot, "/theme nrod")
        assert "no theme 'nrod'" in notices()[-1]
        assert app.theme == "nord"


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("/nonsense", "no command /nonsense"),
        ("/export ", "needs more: /export FILE"),
        ("/new now", "takes nothing more"),
    ],
)
async def test_wrong_commands_stay_in_the_input(
    app, engine, notices: Notices, typed: str, said: str
) -> None:
    async with running(app) as pilot:
        app.screen.query_one(Prompt).put(typed)
        await pilot.press("escape", "enter")
        await pilot.pause()
        assert said in notices()[-1]
        assert app.screen.query_one(Prompt).text == typed
    assert engine.requests == []


async def test_a_path_is_a_question(app, engine, until: Until) -> None:
    async with running(app) as pilot:
        await ask(app, pilot, until, "/usr/bin/env fails")
    assert len(engine.requests) == 1


async def test_help_opens_and_closes(app) -> None:
    async with running(app) as pilot:
        await pilot.press("f1")
        assert isinstance(app.screen, HelpScreen)
        await pilot.press("escape")
        await send(pilot, "/help")
        assert isinstance(app.screen, HelpScreen)
        await pilot.press("q")
        assert not isinstance(app.screen, HelpScreen)


async def test_quit_leaves(app) -> None:
    async with running(app) as pilot:
        await send(pilot, "/quit")
        assert not app.is_running


async def test_history_finds_and_opens(app, session, store, until: Until) -> None:
    fill(store, session.repository, "apples", "pears", "plums")
    fill(store, "/elsewhere", "cars")
    async with running(app, width=120) as pilot:
        await pilot.press("ctrl+r")
        await until(pilot, lambda: isinstance(app.screen, HistoryScreen))
        options = app.screen.query_one(OptionList)
        assert options.option_count == 3
        await pilot.press(*"PEAR")
        await until(pilot, lambda: options.option_count == 1)
        assert "About pears." in str(app.screen.query_one("#excerpt").content)
        await pilot.press("enter")
        await until(pilot, lambda: questions(app) == ["pears"])
        assert session.conversation.title == "pears"
        await ask(app, pilot, until, "and more?")
    assert len(store.load(session.conversation.id)) == 4


async def test_history_of_all_projects(app, session, store, until: Until) -> None:
    fill(store, session.repository, "apples")
    fill(store, "/elsewhere/garage", "cars")
    async with running(app) as pilot:
        await send(pilot, "/history")
        options = app.screen.query_one(OptionList)
        await pilot.press("ctrl+a")
        await until(pilot, lambda: options.option_count == 2)
        assert "garage" in str(options.get_option_at_index(0).prompt)
        await pilot.press("down", "enter")
        await until(pilot, lambda: questions(app) == ["apples"])


async def test_history_with_words(app, session, store, until: Until) -> None:
    fill(store, session.repository, "apples", "pears")
    async with running(app) as pilot:
        await send(pilot, "/history appl")
        assert app.screen.query_one(Input).value == "appl"
        assert app.screen.query_one(OptionList).option_count == 1


async def test_deleting_asks_first_and_spares_the_open_one(
    app, session, store, until: Until, notices: Notices
) -> None:
    kept, gone = fill(store, session.repository, "kept", "gone")
    session.open(kept)
    async with running(app) as pilot:
        await pilot.press("ctrl+r", "ctrl+x")
        await until(pilot, notices)
        assert len(store.recent()) == 2
        # Moving on forgets that one was asked.
        await pilot.press("down", "ctrl+x", "ctrl+x")
        assert "open in the chat" in notices()[-1]
        await pilot.press("up", "ctrl+x")
        assert len(store.recent()) == 2
        await pilot.press("ctrl+x")
        await until(pilot, lambda: [c.id for c in store.recent()] == [kept])
    assert gone != kept


async def test_opening_another_stores_the_answer_under_way(
    app, engine, session, store, until: Until
) -> None:
    (other,) = fill(store, session.repository, "other")
    engine.pieces, engine.gate_at = ["So far", " never"], 1
    async with running(app) as pilot:
        await send(pilot, "current")
        await until(pilot, lambda: app.screen.query(Reply) and app.screen.query(Reply).last().text)
        current = session.conversation.id
        await pilot.press("ctrl+r", "down", "enter")
        await until(pilot, lambda: questions(app) == ["other"])
        assert [m.text for m in store.load(current)] == ["current", "So far"]
        assert [m.text for m in store.load(other)] == ["other", "About other."]
        engine.pieces, engine.gate_at = ["Fresh."], None
        await ask(app, pilot, until, "next")
        assert [m.text for m in store.load(other)][2:] == ["next", "Fresh."]
    assert engine.closed == 2
