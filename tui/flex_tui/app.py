"""The application: one chat screen, and how it is put together and taken apart."""

from pathlib import Path, PurePath
from typing import ClassVar

from textual.app import App
from textual.binding import Binding, BindingType

from flex_assist.chat.conversations import Conversations
from flex_assist.chat.service import ChatService
from flex_assist.chat.session import Session
from flex_assist.config import Settings
from flex_assist.engine.choice import open_engine
from flex_assist.locations import Locations
from flex_tui.screens.chat import ChatScreen

STYLES: list[str | PurePath] = [
    "screens/chat.tcss", "screens/help.tcss", "screens/history.tcss", "widgets/prompt.tcss",
    "widgets/status_line.tcss", "widgets/suggestions.tcss", "widgets/transcript.tcss",
]  # fmt: skip


class ChatApp(App[None]):
    """The terminal chat.

    Args:
        service: Answers; its engine belongs to the caller.
        session: The conversation to begin with.
    """

    TITLE = "FLeX-Assist"
    CSS_PATH = STYLES
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+q", "quit", "Quit", priority=True),
    ]

    def __init__(self, service: ChatService, session: Session) -> None:
        super().__init__()
        self._chat = ChatScreen(service, session)

    def get_default_screen(self) -> ChatScreen:
        return self._chat


async def run(
    root: Path, settings: Settings, locations: Locations, *, adapter: str, resume: bool
) -> None:
    """Chat about ``root`` until the person leaves.

    Args:
        adapter: ``auto``, ``none`` or a name.
        resume: Go on with the repository's latest conversation.

    Raises:
        ConfigError: There is no such adapter.
        DataError: The store of conversations cannot be used.
    """
    engine = open_engine(locations, settings)
    service = ChatService(engine, settings, locations, root)
    service.route((), adapter)
    with Conversations(locations.conversations) as store:
        session = Session(store, str(root), adapter)
        if resume and session.open_last() and adapter != "auto":
            session.choose(adapter)
        try:
            await ChatApp(service, session).run_async()
        finally:
            await engine.close()
