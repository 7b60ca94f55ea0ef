"""What one chat is at: the conversation, its messages, the adapter chosen. Stored as it goes."""

import os
from collections.abc import Sequence
from pathlib import Path

from flex_assist.chat.conversations import Conversation, Conversations, Message
from flex_assist.chat.export import to_markdown
from flex_assist.errors import ConfigError, DataError
from flex_assist.files import write_text_atomically


class Session:
    """The state of a chat. A conversation appears in the store with its first question.

    Args:
        repository: The real path of the repository's root.
        adapter: ``auto``, ``none`` or an adapter's name, for new conversations.
    """

    def __init__(self, store: Conversations, repository: str, adapter: str = "auto") -> None:
        self.store = store
        self.repository = repository
        self._adapter = adapter
        self._conversation: Conversation | None = None
        self._messages: list[Message] = []

    @property
    def conversation(self) -> Conversation | None:
        """The open conversation; None before the first question."""
        return self._conversation

    @property
    def messages(self) -> Sequence[Message]:
        """What was said so far; an immutable copy."""
        return tuple(self._messages)

    @property
    def adapter(self) -> str:
        """What was chosen: ``auto``, ``none`` or a name."""
        return self._adapter

    def ask(self, text: str) -> Message:
        """Store a question.

        Raises:
            DataError: It cannot be stored.
        """
        if self._conversation is None:
            self._conversation = self.store.create(self.repository, text, self._adapter)
        message = self.store.append(self._conversation.id, Message(role="user", text=text))
        self._messages.append(message)
        return message

    def withdraw(self) -> None:
        """Take back the last question: it got no answer."""
        if self._conversation is None or not self._messages:
            return
        self.store.withdraw(self._conversation.id)
        self._messages.pop()
        if not self._messages:
            self._conversation = None

    def answered(
        self,
        text: str,
        *,
        adapter: str | None,
        tokens: int | None = None,
        seconds: float | None = None,
        stopped: bool = False,
    ) -> Message:
        """Store an answer, or as much of it as there is.

        Raises:
            DataError: It cannot be stored.
        """
        message = Message(
            role="assistant",
            text=text,
            adapter=adapter,
            tokens=tokens,
            seconds=seconds,
            stopped=stopped,
        )
        if self._conversation is not None:
            message = self.store.append(self._conversation.id, message)
        self._messages.append(message)
        return message

    def begin_anew(self) -> None:
        """Leave the conversation; the next question begins another."""
        self._conversation = None
        self._messages = []

    def open(self, conversation_id: int) -> Conversation:
        """Continue a stored conversation, with the adapter chosen in it."""
        conversation = self.store.get(conversation_id)
        self._messages = self.store.load(conversation_id)
        self._conversation = conversation
        self._adapter = conversation.adapter
        return conversation

    def open_last(self) -> Conversation | None:
        """Continue the repository's latest conversation, if there is one."""
        found = self.store.recent(self.repository, limit=1)
        return self.open(found[0].id) if found else None

    def choose(self, adapter: str) -> None:
        """Take ``adapter`` from now on."""
        self._adapter = adapter
        if self._conversation is not None:
            self.store.choose_adapter(self._conversation.id, adapter)

    def last_answer(self) -> str | None:
        """The text of the latest answer."""
        answers = (m.text for m in reversed(self._messages) if m.role == "assistant")
        return next(answers, None)

    def export(self, name: str) -> Path:
        """Write the conversation as Markdown.

        Args:
            name: A path; ``~`` is the person's own folder.

        Raises:
            ConfigError: There is nothing to write, or the file exists.
            DataError: The file cannot be written.
        """
        if self._conversation is None:
            raise ConfigError("there is nothing to export yet: ask something first")
        try:
            path = Path(name).expanduser().absolute()
            if os.path.lexists(path):
                raise ConfigError(f"{str(path)!r} exists: name another file")
            write_text_atomically(path, to_markdown(self._conversation, self._messages))
        except (OSError, RuntimeError, ValueError) as error:
            raise DataError(f"{name!r} cannot be written ({error}): name another file") from error
        return path
