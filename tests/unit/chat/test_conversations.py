import sqlite3
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flex_assist.chat import conversations
from flex_assist.chat.conversations import Conversations, Message, title_of
from flex_assist.errors import ConfigError, DataError


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "conversations.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[Conversations]:
    with Conversations(path, clock=Clock()) as opened:
        yield opened


def test_what_is_appended_is_loaded_in_order(store: Conversations) -> None:
    made = store.create("/r", "How does it work?\nmore", adapter="python")
    question = Message(role="user", text="How does it work? 😀")
    answer = Message(
        role="assistant", text="So.", adapter="python", tokens=3, seconds=1.5, stopped=True
    )
    store.append(made.id, question)
    store.append(made.id, answer)
    first, second = store.load(made.id)
    assert (first.role, first.text, first.adapter) == ("user", question.text, None)
    assert (second.adapter, second.tokens, second.seconds, second.stopped) == (
        "python", 3, 1.5, True,
    )  # fmt: skip
    assert first.created < second.created
    got = store.get(made.id)
    assert (got.title, got.adapter, got.repository) == ("How does it work?", "python", "/r")
    assert got.messages == 2


def test_latest_change_comes_first_and_repositories_are_apart(store: Conversations) -> None:
    old, new = store.create("/a", "old"), store.create("/a", "new")
    store.create("/b", "elsewhere")
    store.append(old.id, Message(role="user", text="again"))
    assert [c.title for c in store.recent("/a")] == ["old", "new"]
    assert [c.id for c in store.recent("/a", limit=1)] == [old.id]
    assert len(store.recent()) == 3
    assert new.id != old.id


def test_search_wants_every_word_in_title_or_messages(store: Conversations) -> None:
    one = store.create("/r", "Größe der Datei")
    store.append(one.id, Message(role="user", text="100% of read_file"))
    two = store.create("/r", "other")
    store.append(two.id, Message(role="user", text="1000 of readXfile"))
    assert [c.id for c in store.search("GRÖSSE read_file")] == [one.id]
    assert [c.id for c in store.search("100%")] == [one.id]
    assert [c.id for c in store.search("of")] == [two.id, one.id]
    assert store.search("größe missing") == []
    assert store.search("größe", repository="/other") == []


def test_deleting_leaves_no_trace_in_the_files(store: Conversations, path: Path) -> None:
    marker = "remarkable-4711"
    made = store.create("/r", marker)
    store.append(made.id, Message(role="user", text=f"{marker} text"))
    store.delete(made.id)
    assert store.load(made.id) == []
    with pytest.raises(ConfigError, match="no conversation"):
        store.get(made.id)
    for file in path.parent.iterdir():
        assert marker.encode() not in file.read_bytes()


@pytest.mark.skipif(sys.platform == "win32", reason="file modes are those of POSIX")
def test_only_the_owner_can_read(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.touch(mode=0o644)
    with Conversations(path) as store:
        store.create("/r", "secret plan")
        for file in path.parent.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file.name


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_a_link_in_its_place_is_refused(path: Path, tmp_path: Path) -> None:
    path.parent.mkdir(parents=True)
    (tmp_path / "other").touch()
    path.symlink_to(tmp_path / "other")
    with pytest.raises(DataError, match="cannot be kept"):
        Conversations(path)


def test_two_stores_work_side_by_side(store: Conversations, path: Path) -> None:
    with Conversations(path) as other:
        made = other.create("/r", "from the other")
        store.append(made.id, Message(role="user", text="from this"))
        assert [m.text for m in other.load(made.id)] == ["from this"]


def test_migrations_run_once_each_and_keep_what_is_there(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Conversations(path) as store:
        kept = store.create("/r", "before")
    more = "ALTER TABLE conversations ADD COLUMN pinned INTEGER NOT NULL DEFAULT 7;"
    monkeypatch.setattr(conversations, "MIGRATIONS", (*conversations.MIGRATIONS, more))
    for _ in range(2):
        with Conversations(path) as store:
            assert store.get(kept.id).title == "before"
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT pinned FROM conversations").fetchone() == (7,)
    assert connection.execute("PRAGMA user_version").fetchone() == (2,)
    connection.close()


def test_a_failing_migration_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Conversations(path) as store:
        store.create("/r", "before")
    bad = "ALTER TABLE conversations ADD COLUMN pinned INTEGER; SELECT nonsense FROM nowhere;"
    with monkeypatch.context() as patched:
        patched.setattr(conversations, "MIGRATIONS", (*conversations.MIGRATIONS, bad))
        with pytest.raises(DataError, match="nowhere"):
            Conversations(path)
    connection = sqlite3.connect(path)
    columns = [row[1] for row in connection.execute("PRAGMA table_info(conversations)")]
    connection.close()
    assert "pinned" not in columns
    with Conversations(path) as store:
        assert len(store.recent()) == 1


def test_a_newer_schema_is_left_alone(path: Path) -> None:
    Conversations(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(DataError, match="newer version"):
        Conversations(path)


def test_a_damaged_file_gives_one_message(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(DataError, match="not a database"):
        Conversations(path)


def test_lone_surrogates_are_stored_as_question_marks(store: Conversations) -> None:
    made = store.create("/r\udce9", "name\udce9")
    store.append(made.id, Message(role="user", text="a\udce9b"))
    assert store.load(made.id)[0].text == "a?b"
    assert [c.id for c in store.recent("/r\udce9")] == [made.id]


def test_title_is_the_first_line_shortened() -> None:
    assert title_of("\n  hello \nworld") == "hello"
    assert title_of("") == "Empty"
    long = title_of("x" * 100)
    assert len(long) == 60
    assert long.endswith("…")
