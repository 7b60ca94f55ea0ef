"""The list above the input: files, commands, adapters that fit what is being typed."""

from collections.abc import Sequence

from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from flex_assist.chat.export import printable
from flex_tui.messages import SuggestionTaken


class Suggestions(OptionList, can_focus=False):
    """Choices while one types. The input keeps the focus and steers it; the mouse works too."""

    def __init__(self) -> None:
        super().__init__()
        self.display = False
        self._replacements: list[str] = []

    def show(self, choices: Sequence[tuple[str, str]]) -> None:
        """Offer choices, or close if there are none.

        Args:
            choices: What is inserted, and what is said of it.
        """
        self._replacements = [replacement for replacement, _ in choices]
        width = max((len(name.strip()) for name, _ in choices), default=0)
        self.clear_options()
        self.add_options([Option(_row(name, note, width)) for name, note in choices])
        self.display = bool(choices)
        self.highlighted = 0 if choices else None

    def close(self) -> None:
        """Offer nothing."""
        self.show([])

    def chosen(self) -> str | None:
        """What would be inserted now; None if the list is closed."""
        if not self.display or self.highlighted is None:
            return None
        return self._replacements[self.highlighted]

    def step(self, by: int) -> None:
        """Move the mark, round the ends."""
        if self._replacements:
            self.highlighted = ((self.highlighted or 0) + by) % len(self._replacements)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.post_message(SuggestionTaken(self._replacements[event.option_index]))


def _row(name: str, note: str, width: int) -> Content:
    shown = printable(name.strip())
    if not note:
        return Content(shown)
    return Content.assemble(shown.ljust(width), (f"  {note}", "$foreground 60%"))
