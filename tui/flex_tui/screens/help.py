"""Keys and commands on one page."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from flex_tui.commands import COMMANDS

KEYS: tuple[tuple[str, str], ...] = (
    ("Enter", "send"),
    ("Ctrl-J, Shift-Enter", "another line"),
    ("↑ ↓", "earlier questions"),
    ("Tab, Enter", "take a suggestion"),
    ("Esc, Ctrl-C", "stop the answer"),
    ("PgUp PgDn", "scroll"),
    ("Ctrl-N", "new conversation"),
    ("Ctrl-R", "history"),
    ("Ctrl-P", "palette"),
    ("Ctrl-Q", "leave"),
)
ATTACHING: tuple[tuple[str, str], ...] = (
    ("@src/app.py", "the whole file"),
    ("@src/app.py:10-40", "these lines"),
    ('@"my file.py"', "a name with blanks"),
)
_COLUMN = 25


class HelpScreen(ModalScreen[None]):
    """Any of the usual keys closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,f1,q,enter", "dismiss", "Close", key_display="esc"),
    ]

    def compose(self) -> ComposeResult:
        commands = [(command.usage, command.help) for command in COMMANDS]
        with VerticalScroll(id="help") as box:
            box.border_title = "Help"
            box.border_subtitle = "esc closes"
            yield Static(_table("Attach", ATTACHING))
            yield Static(_table("Keys", KEYS))
            yield Static(_table("Commands", commands))


def _table(title: str, rows: tuple[tuple[str, str], ...] | list[tuple[str, str]]) -> Content:
    parts: list[Content | tuple[str, str] | str] = [(title, "bold $primary")]
    for left, right in rows:
        parts += ["\n  ", (left.ljust(_COLUMN), "$text-accent"), f" {right}"]
    return Content.assemble(*parts, "\n")
