from collections.abc import Iterator
from pathlib import Path

import pytest

from flex_assist.chat.conversations import Conversations
from flex_assist.chat.session import Session
from flex_assist.errors import ConfigError, DataError


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Conversations]:
    with Conversations(tmp_path / "conversations.sqlite") as opened:
        yield opened


@pytest.fixture
def session(store: Conversations) -> Session:
    return Session(store, "/r", "python")


def test_a_conversation_is_stored_with_its_first_question(
    session: Session, store: Conversations
) -> None:
    assert store.recent() == []
    session.ask("Why?")
    session.answered("So.", adapter="python", tokens=2, seconds=1.0)
    assert [m.text for m in store.load(session.conversation.id)] == ["Why?", "So."]
    assert session.conversation.adapter == "python"
    assert session.last_answer() == "So."


def test_withdrawing_the_only_question_removes_the_conversation(
    session: Session, store: Conversations
) -> None:
    session.ask("Why?")
    session.withdraw()
    assert store.recent() == []
    assert (session.conversation, session.messages) == (None, ())
    session.withdraw()


def test_withdrawing_a_later_question_keeps_the_rest(
    session: Session, store: Conversations
) -> None:
    session.ask("one")
    session.answered("first", adapter=None)
    session.ask("two")
    session.withdraw()
    assert [m.text for m in store.load(session.conversation.id)] == ["one", "first"]
    store.withdraw(session.conversation.id)
    assert len(store.load(session.conversation.id)) == 2


def test_the_last_conversation_of_the_repository_is_resumed(store: Conversations) -> None:
    first = Session(store, "/r")
    first.ask("mine")
    first.choose("none")
    Session(store, "/elsewhere").ask("theirs")
    again = Session(store, "/r")
    assert again.open_last().title == "mine"
    assert again.adapter == "none"
    assert [m.text for m in again.messages] == ["mine"]
    assert Session(store, "/never").open_last() is None


def test_beginning_anew_keeps_the_choice(session: Session, store: Conversations) -> None:
    session.ask("one")
    session.begin_anew()
    assert session.messages == ()
    session.ask("two")
    assert [(c.title, c.adapter) for c in store.recent()] == [("two", "python"), ("one", "python")]


def test_export_refuses_what_is_there(session: Session, tmp_path: Path) -> None:
    path = tmp_path / "talk.md"
    with pytest.raises(ConfigError, match="nothing to export"):
        session.export(str(path))
    session.ask("Why?")
    assert session.export(str(path)) == path
    assert path.read_text().startswith("# Why?")
    with pytest.raises(ConfigError, match="exists"):
        session.export(str(path))
    with pytest.raises(DataError, match="name another file"):
        session.export(str(path / "below.md"))
