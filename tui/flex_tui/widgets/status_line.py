"""The line at the top: who answers about what, how fast, and how full the context is."""

import math

from textual import events
from textual.app import ComposeResult, RenderResult
from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget
from textual.widgets import Static

from flex_assist.chat.export import printable
from flex_tui.messages import AdapterClicked

GAUGE_CELLS = 8
# Above this share of the context the next questions begin to push out the oldest.
NEARLY_FULL = 0.75


class AdapterLabel(Static):
    """The adapter's name; a click offers others."""

    def on_click(self, event: events.Click) -> None:
        event.stop()
        self.post_message(AdapterClicked())


class Gauge(Widget):
    """How much of the context the last prompt and its answer fill."""

    used_tokens: reactive[int] = reactive(0)
    context_tokens: reactive[int] = reactive(0)

    @property
    def share(self) -> float:
        """Between 0 and 1."""
        return min(self.used_tokens / self.context_tokens, 1.0) if self.context_tokens else 0.0

    def render(self) -> RenderResult:
        filled = math.ceil(self.share * GAUGE_CELLS)
        colour = "$warning" if self.share >= NEARLY_FULL else "$success"
        return Content.assemble(
            ("▰" * filled, colour),
            ("▱" * (GAUGE_CELLS - filled), "$foreground 35%"),
            f" {self.share:4.0%}",
        )

    def watch_context_tokens(self) -> None:
        self._explain()

    def watch_used_tokens(self) -> None:
        self._explain()

    def _explain(self) -> None:
        self.tooltip = f"{self.used_tokens:,} of {self.context_tokens:,} tokens of context"


class StatusLine(Widget):
    """Project, model, adapter, speed, context."""

    def __init__(self, project: str, model: str) -> None:
        super().__init__()
        self._project = printable(project)
        self._model = printable(model)
        # Made here, as the screen may have something to show before it is all on the screen.
        self._adapter = AdapterLabel(id="adapter", markup=False)
        self._activity = Static(id="activity", markup=False)
        self._gauge = Gauge(id="gauge")

    def compose(self) -> ComposeResult:
        yield Static(f" {self._project} ", id="project", markup=False)
        yield Static(self._model, id="model", markup=False)
        yield self._adapter
        yield self._activity
        yield self._gauge

    def show_adapter(self, choice: str, answering: str | None, reason: str = "") -> None:
        """Name the adapter.

        Args:
            choice: What was chosen: ``auto``, ``none`` or a name.
            answering: Who answers by that choice, where it is known.
        """
        name = answering or ("base" if choice == "none" else choice)
        chosen = "" if choice != "auto" or name == "auto" else " (auto)"
        self._adapter.update(f"adapter {name}{chosen}")
        self._adapter.tooltip = f"{reason or 'who answers'}. Click to choose."

    def show_activity(self, text: str) -> None:
        """What goes on, or how fast the last answer was."""
        self._activity.update(text)

    def show_context(self, used_tokens: int, context_tokens: int) -> None:
        """Fill the gauge."""
        self._gauge.context_tokens = context_tokens
        self._gauge.used_tokens = used_tokens
