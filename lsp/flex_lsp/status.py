"""What the server is doing, told to the editor when it changes and not otherwise."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

State = Literal["starting", "loading", "ready", "off", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """One state of the server.

    Attributes:
        message: For people, one line.
        language: The language that was completed last, if any.
        adapter: What answered for it: an adapter's name, or ``base``.
    """

    state: State
    message: str
    language: str | None = None
    adapter: str | None = None


class StatusBoard:
    """Holds the status; publishes every change once, and every error's text once."""

    def __init__(self, publish: Callable[[Status], None], alarm: Callable[[str], None]) -> None:
        self._publish = publish
        self._alarm = alarm
        self._alarmed: set[str] = set()
        self.current = Status(state="starting", message="starting")

    def announce(self, status: Status) -> None:
        """Publish a status even if it is the current one."""
        self.current = status
        self._publish(status)

    def set(self, status: Status) -> None:
        """Change the status; the same status again is silent."""
        if status != self.current:
            self.announce(status)

    def ready(self, language: str | None, adapter: str | None, reason: str) -> None:
        """The model answers: with this adapter for this language, for this reason."""
        message = "ready"
        if language is not None and adapter is not None:
            message = f"{language}: {adapter} ({reason})" if reason else f"{language}: {adapter}"
        self.set(Status(state="ready", message=message, language=language, adapter=adapter))

    def warn(self, message: str) -> None:
        """Something that people should mend, and that does not stop the work."""
        self._alarm(message)

    def error(self, message: str) -> None:
        """Something failed. People are alarmed once for each text, however often it happens."""
        self.set(Status(state="error", message=message))
        if message not in self._alarmed:
            self._alarmed.add(message)
            self._alarm(message)
