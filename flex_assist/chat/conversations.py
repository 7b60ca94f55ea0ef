"""Conversations in one SQLite file, readable by its owner alone.

The texts of attached files are not kept: a message keeps its ``@path`` and the file is read anew.
What is deleted is overwritten in the file.
"""

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from flex_assist.errors import ConfigError, DataError
from flex_assist.locations import private_directory

Role = Literal["user", "assistant"]

TITLE_CHARACTERS = 60
BUSY_TIMEOUT_S = 5.0

# One script a version; ``user_version`` counts those that ran. Never change one that was released.
MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE conversations (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        title TEXT NOT NULL,
        created REAL NOT NULL,
        changed REAL NOT NULL,
        repository TEXT NOT NULL,
        adapter TEXT NOT NULL
    );
    CREATE TABLE messages (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        conversation INTEGER NOT NULL REFERENCES conversations(id) ON DELETE CASCADE,
        role TEXT NOT NULL CHECK (role IN ('user', 'assistant')),
        text TEXT NOT NULL,
        created REAL NOT NULL,
        adapter TEXT,
        tokens INTEGER,
        seconds REAL,
        stopped INTEGER NOT NULL DEFAULT 0
    );
    CREATE INDEX messages_of_conversation ON messages (conversation, id);
    CREATE INDEX conversations_by_change ON conversations (changed);
    """,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What a person or the model said.

    Attributes:
        created: Seconds since 1970.
        adapter: Name of the adapter that answered; None for a person's message.
        tokens: Length of the answer in tokens.
        seconds: Time from the question to the end of the answer.
        stopped: The answer was stopped or broke off.
    """

    role: Role
    text: str
    created: float = 0.0
    adapter: str | None = None
    tokens: int | None = None
    seconds: float | None = None
    stopped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """A conversation without its messages.

    Attributes:
        repository: The repository's real path.
        adapter: ``auto``, ``none`` or an adapter's name: what was chosen for it last.
        messages: How many there are.
    """

    id: int
    title: str
    created: float
    changed: float
    repository: str
    adapter: str
    messages: int


class Conversations:
    """The store. Cheap to open; one object serves one thread.

    Args:
        path: Made (0600, in a private folder) if it is not there.
        clock: Gives seconds since 1970.

    Raises:
        DataError: The file is damaged, or written by a newer version of the product.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        with self._explained():
            private_directory(path.parent)
            _make_private(path)
            self._connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
            self._connection.row_factory = sqlite3.Row
        try:
            with self._explained():
                self._prepare()
        except DataError:
            self._connection.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def create(self, repository: str, title: str, adapter: str = "auto") -> Conversation:
        """Begin a conversation. Its title is the first line of ``title``, shortened."""
        now = self._clock()
        with self._explained():
            cursor = self._connection.execute(
                "INSERT INTO conversations (title, created, changed, repository, adapter)"
                " VALUES (?, ?, ?, ?, ?)",
                (_storable(title_of(title)), now, now, _storable(repository), adapter),
            )
        assert cursor.lastrowid is not None
        return self.get(cursor.lastrowid)

    def get(self, conversation_id: int) -> Conversation:
        """One conversation.

        Raises:
            ConfigError: There is none with this id.
        """
        with self._explained():
            row = self._connection.execute(
                f"{_SELECT} WHERE c.id = ?", (conversation_id,)
            ).fetchone()
        if row is None:
            raise ConfigError(f"there is no conversation {conversation_id!r}; see the history")
        return _conversation(row)

    def recent(self, repository: str | None = None, limit: int = 200) -> list[Conversation]:
        """The latest conversations first, of one repository or of all."""
        return self.search("", repository, limit)

    def search(
        self, words: str, repository: str | None = None, limit: int = 200
    ) -> list[Conversation]:
        """Conversations whose title or messages hold every one of ``words``, latest first."""
        where, values = ["1"], list[object]()
        if repository is not None:
            where.append("c.repository = ?")
            values.append(_storable(repository))
        for word in words.split():
            where.append(
                "(holds(c.title, ?) OR EXISTS (SELECT 1 FROM messages m"
                " WHERE m.conversation = c.id AND holds(m.text, ?)))"
            )
            values += [_storable(word).casefold()] * 2
        with self._explained():
            rows = self._connection.execute(
                f"{_SELECT} WHERE {' AND '.join(where)} ORDER BY c.changed DESC, c.id DESC LIMIT ?",
                (*values, limit),
            ).fetchall()
        return [_conversation(row) for row in rows]

    def load(self, conversation_id: int) -> list[Message]:
        """Its messages, oldest first."""
        with self._explained():
            rows = self._connection.execute(
                "SELECT * FROM messages WHERE conversation = ? ORDER BY id", (conversation_id,)
            ).fetchall()
        return [_message(row) for row in rows]

    def append(self, conversation_id: int, message: Message) -> Message:
        """Store a message; gives it back with its time."""
        now = message.created or self._clock()
        row = (
            conversation_id,
            message.role,
            _storable(message.text),
            now,
            message.adapter,
            message.tokens,
            message.seconds,
            int(message.stopped),
        )
        with self._explained(), self._transaction():
            self._connection.execute(
                "INSERT INTO messages (conversation, role, text, created, adapter, tokens,"
                " seconds, stopped) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                row,
            )
            self._connection.execute(
                "UPDATE conversations SET changed = ? WHERE id = ?", (now, conversation_id)
            )
        return Message(
            role=message.role,
            text=message.text,
            created=now,
            adapter=message.adapter,
            tokens=message.tokens,
            seconds=message.seconds,
            stopped=message.stopped,
        )

    def withdraw(self, conversation_id: int) -> None:
        """Remove the last message if it is a question; a conversation left empty goes with it."""
        with self._explained(), self._transaction():
            self._connection.execute(
                "DELETE FROM messages WHERE role = 'user' AND id ="
                " (SELECT max(id) FROM messages WHERE conversation = ?)",
                (conversation_id,),
            )
            self._connection.execute(
                "DELETE FROM conversations WHERE id = ?"
                " AND NOT EXISTS (SELECT 1 FROM messages WHERE conversation = ?)",
                (conversation_id, conversation_id),
            )

    def choose_adapter(self, conversation_id: int, adapter: str) -> None:
        """Remember what was chosen for the conversation."""
        with self._explained():
            self._connection.execute(
                "UPDATE conversations SET adapter = ? WHERE id = ?", (adapter, conversation_id)
            )

    def delete(self, conversation_id: int) -> None:
        """Remove a conversation; its bytes are overwritten."""
        with self._explained():
            self._connection.execute("DELETE FROM conversations WHERE id = ?", (conversation_id,))
            # The write-ahead log holds the old pages until it is folded into the file.
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _prepare(self) -> None:
        self._connection.create_function("holds", 2, _holds, deterministic=True)
        for pragma in (
            "journal_mode = WAL",
            "synchronous = NORMAL",
            "foreign_keys = ON",
            "secure_delete = ON",
        ):
            self._connection.execute(f"PRAGMA {pragma}")
        if self._version() == len(MIGRATIONS):
            return
        # The lock comes first: two chats may start at the same time.
        with self._transaction():
            version = self._version()
            if version > len(MIGRATIONS):
                raise DataError(
                    f"{self._path} was written by a newer version of FLeX-Assist"
                    f" (schema {version}, known {len(MIGRATIONS)}): update the program"
                )
            for script in MIGRATIONS[version:]:
                for statement in filter(str.strip, script.split(";")):
                    self._connection.execute(statement)
            self._connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")

    def _version(self) -> int:
        return int(self._connection.execute("PRAGMA user_version").fetchone()[0])

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise DataError(
                f"conversations cannot be kept in {str(self._path)!r}: {error}. Free the disk, or"
                " move the file away to begin anew"
            ) from error


def title_of(text: str) -> str:
    """A title from a first message: its first line with something in it, shortened."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "Empty")
    return line if len(line) <= TITLE_CHARACTERS else line[: TITLE_CHARACTERS - 1].rstrip() + "…"


_SELECT = (
    "SELECT c.*, (SELECT count(*) FROM messages m WHERE m.conversation = c.id) AS messages"
    " FROM conversations c"
)


def _conversation(row: sqlite3.Row) -> Conversation:
    names = ("id", "title", "created", "changed", "repository", "adapter", "messages")
    return Conversation(**{name: row[name] for name in names})


def _message(row: sqlite3.Row) -> Message:
    names = ("role", "text", "created", "adapter", "tokens", "seconds")
    return Message(**{name: row[name] for name in names}, stopped=bool(row["stopped"]))


def _holds(text: str, word: str) -> bool:
    return word in text.casefold()


def _storable(text: str) -> str:
    """SQLite takes no lone surrogates, which names of files may bring."""
    return text.encode("utf-8", "replace").decode()


def _make_private(path: Path) -> None:
    flags = os.O_CREAT | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0)
    handle = os.open(path, flags, 0o600)
    try:
        if hasattr(os, "fchmod"):
            os.fchmod(handle, 0o600)
    finally:
        os.close(handle)
