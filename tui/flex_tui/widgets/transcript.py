"""The conversation on the screen."""

import time
from collections.abc import Iterable

from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.timer import Timer
from textual.widgets import Markdown, Static

from flex_assist.chat.conversations import Message
from flex_assist.chat.export import printable
from flex_assist.chat.service import Answered, Prepared

# Markdown is laid out anew with each flush, on the cores that the model computes on.
FLUSH_S = 0.25


class Question(Static):
    """What the person asked, as it was typed."""

    def __init__(self, text: str) -> None:
        super().__init__(printable(text), markup=False)
        self.text = text


class Reply(Vertical):
    """An answer: Markdown that grows, and a caption below.

    Args:
        text: What is there of it already.
        caption: The line below, for an answer that is complete.
    """

    def __init__(self, text: str = "", caption: str = "") -> None:
        super().__init__()
        self._text = text
        self._caption = caption
        self._pending: list[str] = []
        self._started = time.monotonic()
        self._state = "starting"
        self._timer: Timer | None = None

    @property
    def text(self) -> str:
        """All of it, also what is not shown yet."""
        return self._text

    def compose(self) -> ComposeResult:
        # Links are the model's words: they are shown, and copied when clicked, never opened.
        yield Markdown(printable(self._text), open_links=False)
        yield Static(self._caption, classes="caption", markup=False)

    def begin(self) -> None:
        """Show that an answer is on its way."""
        self.add_class("-live")
        self._timer = self.set_interval(FLUSH_S, self._tick)
        self._show_state()

    def prepared(self, prepared: Prepared) -> None:
        """The model reads the prompt."""
        who = "the base model" if prepared.adapter == "base" else f"adapter {prepared.adapter}"
        self._state = f"{who} reads {prepared.prompt_tokens:,} tokens"
        self._show_state()

    def feed(self, text: str) -> None:
        """Take some more of the answer; it is shown with the next flush."""
        if not self._text:
            self._state = "answering"
        self._text += text
        self._pending.append(text)

    async def end(self, caption: str) -> None:
        """Show all there is, and the caption."""
        if self._timer is not None:
            self._timer.stop()
        await self._flush()
        self.remove_class("-live")
        self._show(caption)

    async def _tick(self) -> None:
        await self._flush()
        self._show_state()

    async def _flush(self) -> None:
        text, self._pending = "".join(self._pending), []
        if text:
            await self.query_one(Markdown).append(printable(text.replace("\r", "")))

    def _show_state(self) -> None:
        elapsed_s = int(time.monotonic() - self._started)
        self._show(f"{self._state} … {elapsed_s} s   Esc stops" if elapsed_s else self._state)

    def _show(self, caption: str) -> None:
        self.query_one(".caption", Static).update(caption)


class Transcript(VerticalScroll):
    """All questions and replies; follows the end unless one scrolls back."""

    def __init__(self, welcome: Content) -> None:
        super().__init__()
        self._welcome = Static(welcome, id="welcome")

    def compose(self) -> ComposeResult:
        yield self._welcome

    def on_mount(self) -> None:
        self.anchor()

    async def show(self, messages: Iterable[Message]) -> None:
        """Show a whole conversation instead of what is there."""
        await self.query("Question, Reply").remove()
        widgets = [_widget_of(message) for message in messages]
        self._welcome.display = not widgets
        await self.mount_all(widgets)
        self.anchor()

    async def add(self, widget: Question | Reply) -> None:
        """Show one more at the end, and go there."""
        self._welcome.display = False
        await self.mount(widget)
        self.anchor()

    async def withdraw(self) -> None:
        """Remove the last question and what follows it."""
        while (last := self.children[-1]) is not self._welcome:
            await last.remove()
            if isinstance(last, Question):
                break
        self._welcome.display = len(self.children) == 1


def caption_of(message: Message) -> str:
    """The line below an answer: who, how long, how fast."""
    facts = []
    if message.adapter:
        facts.append("base model" if message.adapter == "base" else f"adapter {message.adapter}")
    if message.tokens is not None:
        facts.append(f"{message.tokens} tokens")
    if message.seconds is not None:
        facts.append(f"{message.seconds:.1f} s")
    if message.stopped:
        facts.append("stopped")
    return " · ".join(facts)


def caption_at_end(message: Message, answered: Answered | None) -> str:
    """The caption of an answer that just ended, with what only now is known."""
    caption = caption_of(message)
    if answered is None:
        return caption
    caption += f" · {answered.tokens_per_s:.0f} tokens/s"
    return caption + (" · cut at the limit" if answered.ended == "length" else "")


def _widget_of(message: Message) -> Question | Reply:
    if message.role == "user":
        return Question(message.text)
    return Reply(message.text, caption_of(message))
