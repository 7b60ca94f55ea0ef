"""Where one types: several lines, earlier questions on ↑, suggestions for ``@`` and ``/``."""

from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.widgets import TextArea

from flex_tui.messages import QuestionSubmitted, SuggestionTaken, TypingChanged
from flex_tui.widgets.suggestions import Suggestions

PLACEHOLDER = "Ask about the code.  @ attaches a file   / commands"


class Prompt(TextArea):
    """The input.

    Args:
        suggestions: The list that it steers while it has the focus.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "submit", "Send", priority=True),
        Binding("ctrl+j,shift+enter,alt+enter", "newline", "Newline", key_display="^j"),
    ]

    def __init__(self, suggestions: Suggestions) -> None:
        super().__init__(
            placeholder=PLACEHOLDER,
            soft_wrap=True,
            show_line_numbers=False,
            highlight_cursor_line=False,
        )
        self._suggestions = suggestions
        self._earlier: list[str] = []
        self._position: int | None = None

    @property
    def before(self) -> str:
        """The text up to the cursor."""
        return self.get_text_range((0, 0), self.cursor_location)

    def remember(self, questions: list[str]) -> None:
        """What ↑ brings back, oldest first."""
        self._earlier = questions
        self._position = None

    def put(self, text: str) -> None:
        """Show ``text`` with the cursor behind it."""
        self.load_text(text)
        self.move_cursor(self.document.end)

    def replace_typed(self, length: int, replacement: str) -> None:
        """Replace the ``length`` characters before the cursor, which are in one line."""
        row, column = self.cursor_location
        self.replace(replacement, (row, column - length), (row, column))

    def action_submit(self) -> None:
        """Take the suggestion if the list is open, else send."""
        chosen = self._suggestions.chosen()
        if chosen is not None and not self._is_complete(chosen):
            self.post_message(SuggestionTaken(chosen))
        elif self.text.strip():
            self._suggestions.close()
            self.post_message(QuestionSubmitted(self.text))

    def _is_complete(self, chosen: str) -> bool:
        """What was typed is the suggestion already, and nothing needs to follow it."""
        needs_more = chosen.startswith("/") and chosen.endswith(" ")
        return not needs_more and self.before.endswith(chosen.strip())

    def action_newline(self) -> None:
        """Begin another line."""
        self.insert("\n")

    async def _on_key(self, event: events.Key) -> None:
        handled = self._steer(event.key) if self._suggestions.display else self._recall(event.key)
        if handled:
            event.stop()
            event.prevent_default()

    def _steer(self, key: str) -> bool:
        """Keys that go to the open list of suggestions."""
        if key in ("up", "down"):
            self._suggestions.step(1 if key == "down" else -1)
        elif key == "tab" and (chosen := self._suggestions.chosen()) is not None:
            self.post_message(SuggestionTaken(chosen))
        elif key == "escape":
            self._suggestions.close()
        else:
            return False
        return True

    def _recall(self, key: str) -> bool:
        """↑ on the first line goes back through the questions, ↓ on the last comes forth."""
        row, _ = self.cursor_location
        position = len(self._earlier) if self._position is None else self._position
        if key == "up" and row == 0 and position > 0 and self._may_replace():
            self._position = position - 1
        elif key == "down" and self._position is not None and row == self.document.line_count - 1:
            self._position = position + 1
        else:
            return False
        found = self._earlier[self._position] if self._position < len(self._earlier) else ""
        if self._position >= len(self._earlier):
            self._position = None
        self.put(found)
        return True

    def _may_replace(self) -> bool:
        """Nothing is lost: the input is empty, or shows an earlier question unchanged."""
        if self._position is None:
            return not self.text.strip()
        return self.text == self._earlier[self._position]

    def on_text_area_changed(self) -> None:
        self.post_message(TypingChanged(self.before))

    def on_text_area_selection_changed(self) -> None:
        self.post_message(TypingChanged(self.before))
