"""Asking, streaming, stopping, failing: the screen with a scripted engine."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Footer, Markdown

from flex_assist.chat.conversations import Message
from flex_assist.chat.service import ChatService
from flex_assist.config import ModelSettings, Settings
from flex_assist.errors import EngineError, ModelError
from flex_assist.locations import Locations
from flex_assist.remote_settings import RemoteSettings
from flex_tui.app import ChatApp
from flex_tui.messages import AnswerEnded, AnswerPiece
from flex_tui.widgets.prompt import Prompt
from flex_tui.widgets.status_line import AdapterLabel, Gauge
from flex_tui.widgets.suggestions import Suggestions
from flex_tui.widgets.transcript import Question, Reply

Until = Callable[[Pilot[None], Callable[[], object]], Awaitable[None]]
Notices = Callable[[], list[str]]


def running(app: ChatApp) -> Any:
    return app.run_test(size=(100, 30), notifications=True)


async def ask(pilot: Pilot[None], text: str) -> None:
    pilot.app.screen.query_one(Prompt).put(text)
    await pilot.press("enter")


def shown(app: ChatApp) -> list[str]:
    return [reply.query_one(Markdown).source for reply in app.screen.query(Reply)]


def captions(app: ChatApp) -> list[str]:
    return [str(caption.content) for caption in app.screen.query("Reply .caption")]


def prompt_text(app: ChatApp) -> str:
    return app.screen.query_one(Prompt).text


async def test_an_answer_streams_and_is_stored(app, engine, session, store, until: Until) -> None:
    engine.pieces = ["It ", "**plants** ", "trees."]
    engine.gate_at = 2
    async with running(app) as pilot:
        await ask(pilot, "What does @src/trees.py do?")
        await until(pilot, lambda: shown(app) == ["It **plants** "])
        assert app.screen.is_answering
        assert prompt_text(app) == ""
        engine.gate.set()
        await until(pilot, lambda: "48 tokens/s" in captions(app)[0])
        assert shown(app) == ["It **plants** trees."]
        assert "base model · 24 tokens" in captions(app)[0]
        assert app.screen.query_one(Gauge).used_tokens == len(engine.requests[0].tokens) + 24
    question, answer = store.load(session.conversation.id)
    assert (question.text, answer.text) == ("What does @src/trees.py do?", "It **plants** trees.")
    assert (answer.adapter, answer.tokens, answer.stopped) == ("base", 24, False)


@pytest.mark.parametrize("key", ["escape", "ctrl+c"])
async def test_stopping_keeps_what_there_is(
    app, engine, session, store, until: Until, key: str
) -> None:
    engine.pieces = ["One ", "two ", "never."]
    engine.gate_at = 2
    async with running(app) as pilot:
        await ask(pilot, "Count.")
        await until(pilot, lambda: shown(app) == ["One two "])
        await pilot.press(key)
        await until(pilot, lambda: captions(app)[0].endswith("stopped"))
        # The engine's stream was closed, which is what stops the computing.
        assert engine.closed == 1
        assert store.load(session.conversation.id)[1].text == "One two "
        assert store.load(session.conversation.id)[1].stopped
        engine.pieces, engine.gate_at = ["Three."], None
        await ask(pilot, "Go on.")
        await until(pilot, lambda: shown(app)[-1] == "Three." and not app.screen.is_answering)
    assert len(store.load(session.conversation.id)) == 4


async def test_stopped_before_a_word_the_question_comes_back(
    app, engine, session, store, until: Until
) -> None:
    engine.gate_at = 0
    async with running(app) as pilot:
        await ask(pilot, "Well?")
        await until(pilot, lambda: engine.requests)
        await pilot.press("escape")
        await until(pilot, lambda: prompt_text(app) == "Well?")
        assert not app.screen.query("Question, Reply")
        assert app.screen.query_one("#welcome").display
    assert store.recent() == []
    assert session.conversation is None


async def test_ctrl_c_without_an_answer_does_not_leave(app, notices: Notices) -> None:
    async with running(app) as pilot:
        await pilot.press("ctrl+c")
        await pilot.pause()
        assert app.is_running
        assert any("ctrl+q" in notice for notice in notices())


async def test_stop_is_dimmed_while_there_is_nothing_to_stop(app, engine, until: Until) -> None:
    engine.gate_at = 0
    async with running(app) as pilot:
        await pilot.pause()
        footer = app.screen.query_one(Footer)
        assert [key.description for key in footer.query("FooterKey.-disabled")] == ["Stop"]
        await ask(pilot, "Well?")
        await until(pilot, lambda: not footer.query("FooterKey.-disabled"))


@pytest.mark.parametrize("error", [EngineError("the host is gone; ask again"), ValueError("boom")])
async def test_a_dead_engine_is_told_once_and_the_chat_goes_on(
    app, engine, session, store, until: Until, notices: Notices, error: Exception
) -> None:
    engine.pieces, engine.fail_at, engine.error = ["Half", " more"], 1, error
    async with running(app) as pilot:
        await ask(pilot, "Well?")
        await until(pilot, lambda: engine.closed and not app.screen.is_answering)
        assert len([notice for notice in notices() if str(error) in notice]) == 1
        assert shown(app) == ["Half"]
        engine.fail_at = None
        await ask(pilot, "Again?")
        await until(pilot, lambda: shown(app)[-1] == "Half more" and not app.screen.is_answering)
    assert [m.text for m in store.load(session.conversation.id)] == [
        "Well?", "Half", "Again?", "Half more",
    ]  # fmt: skip


async def test_a_refused_file_gives_the_question_back(
    app, engine, store, until: Until, notices: Notices
) -> None:
    async with running(app) as pilot:
        await ask(pilot, "What is in @src/gone.py?")
        await until(pilot, notices)
        await until(pilot, lambda: prompt_text(app) == "What is in @src/gone.py?")
        assert "'src/gone.py' cannot be attached" in notices()[0]
        assert engine.requests == []
    assert store.recent() == []


async def test_a_model_that_cannot_be_loaded_is_told_at_the_start(
    app, engine, until: Until, notices: Notices
) -> None:
    engine.warm_error = ModelError("'x.gguf' is cut short [bold]; fetch it again")
    async with running(app) as pilot:
        await until(pilot, notices)
        assert notices() == [str(engine.warm_error)]
        assert app.is_running


async def test_one_answer_at_a_time(app, engine, until: Until, notices: Notices) -> None:
    engine.gate_at = 0
    async with running(app) as pilot:
        await ask(pilot, "First?")
        await until(pilot, lambda: engine.requests)
        await ask(pilot, "Second?")
        await until(pilot, notices)
        assert "Esc stops it" in notices()[0]
        assert prompt_text(app) == "Second?"
        assert len(app.screen.query(Question)) == 1


async def test_late_news_of_an_answer_given_up_is_ignored(app, engine, until: Until) -> None:
    engine.gate_at = 0
    async with running(app) as pilot:
        await ask(pilot, "Well?")
        await until(pilot, lambda: engine.requests)
        app.screen.post_message(AnswerPiece(0, "stale"))
        app.screen.post_message(AnswerEnded(0, error="stale"))
        await pilot.pause()
        assert app.screen.is_answering
        assert app.screen.query(Reply).last().text == ""


async def test_what_others_wrote_is_neither_markup_nor_obeyed(app, engine, until: Until) -> None:
    engine.pieces = ["\x1b]52;c;ZXZpbA==\x07 [red]x[/red] [link](http://evil.example)"]
    async with running(app) as pilot:
        await ask(pilot, "[bold]is it[/bold] \x1b[31m?")
        await until(pilot, lambda: shown(app) and "evil" in shown(app)[0])
        await until(pilot, lambda: "48 tokens/s" in captions(app)[0])
        screen = app.export_screenshot()
        assert "[bold]is&#160;it[/bold]" in screen
        assert "[red]x[/red]" in screen
        assert "\x1b" not in shown_question(app) + "".join(shown(app))


def shown_question(app: ChatApp) -> str:
    return "".join(str(question.content) for question in app.screen.query(Question))


async def test_leaving_in_the_middle_keeps_what_there_is(
    app, engine, session, store, until: Until
) -> None:
    engine.pieces, engine.gate_at = ["So far", " never"], 1
    async with running(app) as pilot:
        await ask(pilot, "Well?")
        await until(pilot, lambda: shown(app) == ["So far"])
        await pilot.press("ctrl+q")
    assert [(m.text, m.stopped) for m in store.load(session.conversation.id)][1] == ("So far", True)
    assert engine.closed == 1


async def test_a_resumed_conversation_is_shown(service, session, store, until: Until) -> None:
    made = store.create(session.repository, "Earlier?", adapter="none")
    store.append(made.id, Message(role="user", text="Earlier?"))
    store.append(made.id, Message(role="assistant", text="Yes.", adapter="base", tokens=2))
    session.open_last()
    app = ChatApp(service, session)
    async with running(app) as pilot:
        await until(pilot, lambda: shown(app) == ["Yes."])
        assert captions(app) == ["base model · 2 tokens"]
        assert str(app.screen.query_one(AdapterLabel).content) == "adapter base"
        await pilot.press("up")
        assert prompt_text(app) == "Earlier?"


async def test_what_does_not_fit_is_said(app, root, until: Until, notices: Notices) -> None:
    (root / "long.py").write_text("value = 1\n" * 2000)
    async with running(app) as pilot:
        await ask(pilot, "Explain @long.py")
        await until(pilot, notices)
        assert notices() == ["The context is full. Left out: the end of long.py."]


async def test_arrows_bring_questions_back(app, engine, until: Until) -> None:
    async with running(app) as pilot:
        for text in ("one", "two"):
            await ask(pilot, text)
            await until(pilot, lambda: not app.screen.is_answering)
        await pilot.press("up")
        assert prompt_text(app) == "two"
        await pilot.press("up")
        assert prompt_text(app) == "one"
        await pilot.press("up")
        assert prompt_text(app) == "one"
        await pilot.press("down", "down")
        assert prompt_text(app) == ""
        app.screen.query_one(Prompt).put("half written")
        await pilot.press("up")
        assert prompt_text(app) == "half written"


async def test_several_lines(app, engine, until: Until) -> None:
    async with running(app) as pilot:
        await pilot.press("a", "ctrl+j", "b", "shift+enter", "c")
        assert prompt_text(app) == "a\nb\nc"
        await pilot.press("enter")
        await until(pilot, lambda: shown_question(app) == "a\nb\nc")


async def test_files_are_offered_and_taken(
    app, until: Until, type_text: Callable[..., Awaitable[None]]
) -> None:
    async with running(app) as pilot:
        offered = app.screen.query_one(Suggestions)
        await type_text(pilot, "see @tre")
        await until(pilot, lambda: offered.display)
        await pilot.press("tab")
        assert prompt_text(app) == "see @src/trees.py "
        await until(pilot, lambda: not offered.display)
        await type_text(pilot, "@note")
        await until(pilot, lambda: offered.display)
        # Enter takes the suggestion and does not send.
        await pilot.press("enter")
        await until(pilot, lambda: prompt_text(app).endswith('@"my notes.md" '))
        assert not app.screen.query(Question)


async def test_the_list_closes_by_escape_and_works_by_mouse(
    app, until: Until, type_text: Callable[..., Awaitable[None]]
) -> None:
    async with running(app) as pilot:
        offered = app.screen.query_one(Suggestions)
        await type_text(pilot, "@src/")
        await until(pilot, lambda: offered.display and offered.option_count == 2)
        await pilot.press("escape")
        assert not offered.display
        await pilot.press("backspace")
        await until(pilot, lambda: offered.display)
        await pilot.click(Suggestions, offset=(4, 1))
        await until(pilot, lambda: prompt_text(app) == "@src/water.go ")
        assert app.focused is app.screen.query_one(Prompt)


async def test_a_click_on_the_adapter_offers_adapters(app, until: Until) -> None:
    async with running(app) as pilot:
        await pilot.click(AdapterLabel)
        await until(pilot, lambda: app.screen.query_one(Suggestions).display)
        assert prompt_text(app) == "/adapter "


async def test_who_answers_is_said_before_anything_is_asked(
    engine, session, locations: Locations, root: Path, service: ChatService
) -> None:
    def welcome(app: ChatApp) -> str:
        return str(app.screen.query_one("#welcome").visual)

    async with running(ChatApp(service, session)) as pilot:
        assert "A model on this machine answers. Nothing leaves it." in welcome(pilot.app)
    base = Settings(model=ModelSettings(base=service.base))
    settings = replace(base, remote=RemoteSettings(url="http://[::1]:8000/v1"))
    there = ChatService(engine, settings, locations, root)
    async with running(ChatApp(there, session)) as pilot:
        assert "The server [::1]:8000 answers. What you write" in welcome(pilot.app)
        assert "Nothing leaves" not in welcome(pilot.app)
