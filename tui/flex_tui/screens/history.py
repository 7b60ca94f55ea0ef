"""Earlier conversations: search, preview, open, delete."""

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Footer, Input, OptionList, Static
from textual.widgets.option_list import Option

from flex_assist.chat.conversations import Conversation, Message
from flex_assist.chat.export import printable
from flex_assist.chat.session import Session
from flex_assist.errors import FlexAssistError
from flex_tui import notices

PREVIEW_MESSAGES = 4
PREVIEW_CHARACTERS = 600


class HistoryScreen(ModalScreen[int | None]):
    """Gives the id of the conversation to open, or None.

    Args:
        words: What to search for at first.
    """

    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]  # noqa: RUF012 - as Textual has it
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "Open", priority=True),
        Binding("escape,ctrl+r", "close", "Close", key_display="esc"),
        Binding("down", "step(1)", show=False, priority=True),
        Binding("up", "step(-1)", show=False, priority=True),
        Binding("ctrl+a", "toggle_all", "All projects", priority=True),
        Binding("ctrl+x", "delete", "Delete (twice)", priority=True),
    ]

    def __init__(self, session: Session, words: str = "") -> None:
        super().__init__()
        self._session = session
        self._words = words
        self._everywhere = False
        self._found: Sequence[Conversation] = ()
        self._doomed: int | None = None

    def compose(self) -> ComposeResult:
        with Vertical(id="history") as box:
            box.border_title = "History"
            yield Input(self._words, placeholder="Search titles and messages")
            with Horizontal(id="found"):
                yield OptionList(id="conversations", markup=False)
                with VerticalScroll(id="preview", can_focus=False):
                    yield Static(id="excerpt", markup=False)
            yield Static("", id="nothing", markup=False)
            yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        self.query_one(Input).focus()
        self._search()

    @on(Input.Changed)
    def _on_words(self, event: Input.Changed) -> None:
        self._words = event.value
        self._search()

    @on(OptionList.OptionHighlighted)
    def _on_highlighted(self) -> None:
        self._doomed = None
        self._preview()

    @on(OptionList.OptionSelected)
    def _on_selected(self) -> None:
        self.action_open()

    def action_open(self) -> None:
        """Open the marked conversation."""
        if marked := self._marked():
            self.dismiss(marked.id)

    def action_close(self) -> None:
        """Back to where one was."""
        self.dismiss(None)

    def action_step(self, by: int) -> None:
        """Move the mark while the search keeps the focus."""
        options = self.query_one(OptionList)
        if by > 0:
            options.action_cursor_down()
        else:
            options.action_cursor_up()

    def action_toggle_all(self) -> None:
        """This repository's conversations, or those of all."""
        self._everywhere = not self._everywhere
        self._search()

    def action_delete(self) -> None:
        """Delete the marked conversation; the first press asks."""
        marked = self._marked()
        if marked is None:
            return
        open_now = self._session.conversation
        if open_now is not None and open_now.id == marked.id:
            self._say("It is open in the chat. Begin another (/new) before you delete it.")
        elif self._doomed != marked.id:
            self._doomed = marked.id
            self._say("Press ^x again to delete it for good.")
        else:
            self._try(lambda: self._session.store.delete(marked.id))
            self._search()

    def _search(self) -> None:
        self._doomed = None
        repository = None if self._everywhere else self._session.repository
        self._try(lambda: self._find(repository))
        options = self.query_one(OptionList)
        options.clear_options()
        options.add_options(Option(_row(each, self._everywhere)) for each in self._found)
        options.highlighted = 0 if self._found else None
        place = "in all projects" if self._everywhere else "in this project"
        self.query_one("#history", Vertical).border_subtitle = f"{len(self._found)} {place}"
        self.query_one("#found").display = bool(self._found)
        nothing = self.query_one("#nothing", Static)
        nothing.display = not self._found
        nothing.update(f"No conversation {place}" + (" has these words" if self._words else " yet"))
        self._preview()

    def _find(self, repository: str | None) -> None:
        self._found = self._session.store.search(self._words, repository)

    def _marked(self) -> Conversation | None:
        index = self.query_one(OptionList).highlighted
        return self._found[index] if index is not None and index < len(self._found) else None

    def _preview(self) -> None:
        if marked := self._marked():
            self._try(lambda: self._show(self._session.store.load(marked.id)))

    def _show(self, said: Sequence[Message]) -> None:
        excerpt = self.query_one("#excerpt", Static)
        excerpt.update(Content("\n\n").join(map(_said, said[:PREVIEW_MESSAGES])))

    def _try(self, act: Callable[[], None]) -> None:
        try:
            act()
        except FlexAssistError as error:
            self._say(str(error), failed=True)

    def _say(self, text: str, *, failed: bool = False) -> None:
        if failed:
            notices.fail(self, text)
        else:
            notices.warn(self, text)


def _row(conversation: Conversation, with_project: bool) -> Content:
    day = datetime.fromtimestamp(conversation.changed).strftime("%Y-%m-%d %H:%M")
    number = f"{conversation.messages} messages"
    facts = [day, number, Path(conversation.repository).name] if with_project else [day, number]
    note = printable(" · ".join(facts))
    return Content.assemble(
        (printable(conversation.title), "bold"), "\n", (note, "$foreground 60%")
    )


def _said(message: Message) -> Content:
    who = "You" if message.role == "user" else "FLeX-Assist"
    text = printable(message.text.strip())
    shown = text if len(text) <= PREVIEW_CHARACTERS else text[:PREVIEW_CHARACTERS] + " …"
    return Content.assemble((who, "bold $primary"), "\n", shown)
