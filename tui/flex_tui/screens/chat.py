"""The chat: status, conversation, input. Workers ask; the screen alone changes what is shown."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Footer, Markdown
from textual.worker import get_current_worker

from flex_assist.chat.conversations import Message
from flex_assist.chat.export import code_blocks
from flex_assist.chat.service import Answered, ChatService, Prepared
from flex_assist.chat.session import Session
from flex_assist.engine.protocol import Piece
from flex_assist.errors import FlexAssistError
from flex_tui import messages, notices
from flex_tui.commands import Invocation, fault_of, parse
from flex_tui.completion import typed_at
from flex_tui.screens.help import HelpScreen
from flex_tui.screens.history import HistoryScreen
from flex_tui.suggesting import suggest
from flex_tui.widgets.prompt import Prompt
from flex_tui.widgets.status_line import StatusLine
from flex_tui.widgets.suggestions import Suggestions
from flex_tui.widgets.transcript import Question, Reply, Transcript, caption_at_end

HERE = "A model on this machine answers. Nothing leaves it."
THERE = "The server {} answers. What you write and attach goes there; what has a secret stays."
WELCOME = (
    "[b $primary]FLeX-Assist[/]\n\n$who\n\n"
    "[b]@[/b] attaches a file and picks its language's adapter\n"
    "[b]/[/b] lists the commands   [b]F1[/b] shows the keys"
)


class ChatScreen(Screen[None]):
    """One conversation at a time.

    Args:
        service: Answers.
        session: What was said so far; stores as it goes.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "stop", "Stop", key_display="esc"),
        Binding("ctrl+c", "interrupt", show=False),
        Binding("ctrl+n", "command('new')", "New"),
        Binding("ctrl+r", "command('history')", "History"),
        Binding("f1", "command('help')", "Help"),
        Binding("pageup", "scroll_transcript(-1)", show=False, priority=True),
        Binding("pagedown", "scroll_transcript(1)", show=False, priority=True),
    ]

    def __init__(self, service: ChatService, session: Session) -> None:
        super().__init__()
        self._service = service
        self._session = session
        self._reply: Reply | None = None
        self._number = 0
        self._prepared: Prepared | None = None
        self._carried_out: dict[str, Callable[[str], object]] = {
            "new": self._new, "adapter": self._choose_adapter, "history": self._show_history,
            "export": self._export, "copy": self._copy, "theme": self._choose_theme,
            "help": lambda _: self.app.push_screen(HelpScreen()), "quit": lambda _: self.app.exit(),
        }  # fmt: skip

    def compose(self) -> ComposeResult:
        suggestions = Suggestions()
        yield StatusLine(self._service.root.name or "/", self._service.base)
        server = self._service.server
        who = THERE.format(server) if server else HERE
        yield Transcript(Content.from_markup(WELCOME, who=who))
        yield suggestions
        yield Prompt(suggestions)
        yield Footer(show_command_palette=False)

    async def on_mount(self) -> None:
        self.query_one(Prompt).focus()
        self._show_adapter()
        await self._show_conversation()
        self._status.show_activity("loading the model")
        self._warm(self._session.adapter)

    async def on_unmount(self) -> None:
        """What was answered until now is kept."""
        if self._reply is not None and self._reply.text:
            with contextlib.suppress(FlexAssistError):
                self._keep(self._reply, None)

    @property
    def is_answering(self) -> bool:
        """An answer is on its way."""
        return self._reply is not None

    @property
    def _status(self) -> StatusLine:
        return self.query_one(StatusLine)

    # -- asking ------------------------------------------------------------------------------

    @on(messages.QuestionSubmitted)
    async def _submit(self, event: messages.QuestionSubmitted) -> None:
        invocation = parse(event.text)
        if invocation is not None:
            if self._carry_out(invocation):
                self.query_one(Prompt).put("")
        elif self.is_answering:
            notices.warn(self, "An answer is being written. Esc stops it.")
        else:
            await self._ask(event.text)

    async def _ask(self, text: str) -> None:
        try:
            self._session.ask(text)
        except FlexAssistError as error:
            notices.fail(self, str(error))
            return
        self.query_one(Prompt).put("")
        self._reply, self._prepared, self._number = Reply(), None, self._number + 1
        transcript = self.query_one(Transcript)
        await transcript.add(Question(text))
        await transcript.add(self._reply)
        self._reply.begin()
        self.refresh_bindings()
        self._status.show_activity("")
        self._answer(self._number, self._session.messages, self._session.adapter)

    @work(group="answer", exclusive=True, exit_on_error=False)
    async def _answer(self, number: int, said: Sequence[Message], adapter: str) -> None:
        ended = messages.AnswerEnded(number)
        try:
            async with contextlib.aclosing(self._service.answer(said, adapter)) as stream:
                async for item in stream:
                    if isinstance(item, Prepared):
                        self.post_message(messages.AnswerPrepared(number, item))
                    elif isinstance(item, Piece):
                        self.post_message(messages.AnswerPiece(number, item.text))
                    else:
                        ended = messages.AnswerEnded(number, answered=item)
        except FlexAssistError as error:
            ended = messages.AnswerEnded(number, error=str(error))
        except Exception as error:
            # Whatever breaks in an answer, the conversation goes on.
            self.log.error(error)
            ended = messages.AnswerEnded(number, error=notices.unexpected(error))
        finally:
            self.post_message(ended)

    @on(messages.AnswerPrepared)
    def _show_prepared(self, event: messages.AnswerPrepared) -> None:
        if self._reply is None or event.number != self._number:
            return
        prepared = self._prepared = event.prepared
        self._reply.prepared(prepared)
        self._status.show_adapter(self._session.adapter, prepared.adapter, prepared.reason)
        self._status.show_context(prepared.prompt_tokens, prepared.context_tokens)
        if note := notices.left_out(prepared):
            notices.warn(self, note)

    @on(messages.AnswerPiece)
    def _show_piece(self, event: messages.AnswerPiece) -> None:
        if self._reply is not None and event.number == self._number:
            self._reply.feed(event.text)

    @on(messages.AnswerEnded)
    async def _end_answer(self, event: messages.AnswerEnded) -> None:
        reply = self._reply
        if reply is None or event.number != self._number:
            return
        self._reply = None
        self.refresh_bindings()
        if event.error is not None:
            notices.fail(self, event.error)
        self._status.show_activity("ready")
        if not reply.text and event.answered is None:
            await self._take_back()
            return
        try:
            message = self._keep(reply, event.answered)
        except FlexAssistError as error:
            notices.fail(self, str(error))
            await reply.end("not stored")
            return
        await reply.end(caption_at_end(message, event.answered))
        if event.answered is not None:
            self._show_numbers(event.answered)
        self._remember_questions()

    def _keep(self, reply: Reply, answered: Answered | None) -> Message:
        """Store an answer, whole or broken off."""
        return self._session.answered(
            answered.text if answered else reply.text,
            adapter=self._prepared.adapter if self._prepared else None,
            tokens=answered.tokens if answered else None,
            seconds=answered.seconds if answered else None,
            stopped=answered is None,
        )

    async def _take_back(self) -> None:
        """There is no word of an answer: the question goes back to the input."""
        text = self._session.messages[-1].text
        try:
            self._session.withdraw()
        except FlexAssistError as error:
            notices.fail(self, str(error))
        await self.query_one(Transcript).withdraw()
        prompt = self.query_one(Prompt)
        if not prompt.text.strip():
            prompt.put(text)

    def _show_numbers(self, answered: Answered) -> None:
        self._status.show_activity(f"{answered.tokens_per_s:.0f} tok/s")
        # Where it was computed, if not here as usual.
        if answered.served and self._prepared is not None:
            reason = f"{self._prepared.reason}; {answered.served}"
            self._status.show_adapter(self._session.adapter, answered.adapter, reason)
        if answered.warning:
            notices.warn(self, answered.warning)
        if self._prepared is not None:
            used = answered.prompt_tokens + answered.tokens
            self._status.show_context(used, self._prepared.context_tokens)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """``Stop`` is dimmed while there is nothing to stop."""
        return None if action == "stop" and not self.is_answering else True

    def action_stop(self) -> None:
        """Stop the answer; what is there of it stays."""
        if self.is_answering:
            self.workers.cancel_group(self, "answer")

    def action_interrupt(self) -> None:
        """Ctrl-C: copy what is selected, else stop the answer, else say how to leave."""
        if self.get_selected_text():
            self.action_copy_text()
        elif self.is_answering:
            self.action_stop()
        else:
            self.app.action_help_quit()

    # -- the model ---------------------------------------------------------------------------

    @work(group="warm", exclusive=True, exit_on_error=False)
    async def _warm(self, adapter: str) -> None:
        ready = messages.ModelReady()
        try:
            await self._service.warm(adapter)
        except FlexAssistError as error:
            ready = messages.ModelReady(error=str(error))
        except Exception as error:
            self.log.error(error)
            ready = messages.ModelReady(error=notices.unexpected(error))
        if not get_current_worker().is_cancelled:
            self.post_message(ready)

    @on(messages.ModelReady)
    def _show_ready(self, event: messages.ModelReady) -> None:
        if event.error is not None:
            notices.fail(self, event.error)
        if not self.is_answering:
            self._status.show_activity("no model" if event.error else "ready")

    # -- typing ------------------------------------------------------------------------------

    @on(messages.TypingChanged)
    def _on_typing(self, event: messages.TypingChanged) -> None:
        if typed_at(event.before) is None:
            self.query_one(Suggestions).close()
        else:
            self._suggest(event.before)

    @work(group="suggest", exclusive=True, exit_on_error=False)
    async def _suggest(self, before: str) -> None:
        names = sorted(self.app.available_themes)
        found = await asyncio.to_thread(suggest, before, self._service, names)
        self.post_message(messages.SuggestionsFound(before, found))

    @on(messages.SuggestionsFound)
    def _show_suggestions(self, event: messages.SuggestionsFound) -> None:
        # The search may have taken longer than the next key.
        if event.before == self.query_one(Prompt).before:
            self.query_one(Suggestions).show(event.choices)

    @on(messages.SuggestionTaken)
    def _take_suggestion(self, event: messages.SuggestionTaken) -> None:
        prompt = self.query_one(Prompt)
        typed = typed_at(prompt.before)
        self.query_one(Suggestions).close()
        if typed is not None:
            prompt.replace_typed(typed.length, event.replacement)
        prompt.focus()

    @on(messages.AdapterClicked)
    def _offer_adapters(self) -> None:
        prompt = self.query_one(Prompt)
        if not prompt.text.strip():
            prompt.put("/adapter ")
        prompt.focus()

    # -- commands ----------------------------------------------------------------------------

    def action_command(self, name: str) -> None:
        """A key that stands for a slash command."""
        self._carry_out(Invocation(name=name, argument=""))

    def _carry_out(self, invocation: Invocation) -> bool:
        if fault := fault_of(invocation):
            notices.warn(self, fault)
            return False
        try:
            self._carried_out[invocation.name](invocation.argument)
        except FlexAssistError as error:
            notices.fail(self, str(error))
            return False
        return True

    def _new(self, _: str) -> None:
        self._leave_conversation()
        self._session.begin_anew()
        self.call_later(self._show_conversation)

    def _choose_adapter(self, name: str) -> None:
        route = self._service.route(self._session.messages, name)
        self._session.choose(name)
        answering = None if name == "auto" and not self._session.messages else route.name
        self._status.show_adapter(name, answering, route.reason)
        notices.tell(self, f"From now on: {route.name} ({route.reason}).")

    def _show_history(self, words: str) -> None:
        def opened(conversation_id: int | None) -> None:
            if conversation_id is not None:
                self._open(conversation_id)

        self.app.push_screen(HistoryScreen(self._session, words), opened)

    def _open(self, conversation_id: int) -> None:
        try:
            self._leave_conversation()
            self._session.open(conversation_id)
        except FlexAssistError as error:
            notices.fail(self, str(error))
        self.call_later(self._show_conversation)

    def _export(self, name: str) -> None:
        path = self._session.export(name)
        notices.tell(self, f"Written to {str(path)!r}.")

    def _copy(self, what: str) -> None:
        text = self._session.last_answer()
        if text is not None and what == "code":
            text = "\n".join(code_blocks(text)) or None
        if text is None:
            notices.warn(self, "There is nothing to copy yet.")
            return
        self.app.copy_to_clipboard(text)
        notices.tell(self, f"Copied {len(text):,} characters.")

    def _choose_theme(self, name: str) -> None:
        if name not in self.app.available_themes:
            known = ", ".join(sorted(self.app.available_themes))
            notices.warn(self, f"There is no theme {name!r}; there are {known}.")
            return
        self.app.theme = name

    # -- what is shown -----------------------------------------------------------------------

    def _leave_conversation(self) -> None:
        """Stop and store what is being answered before another conversation is shown."""
        reply, self._reply = self._reply, None
        self.workers.cancel_group(self, "answer")
        if reply is None:
            return
        if reply.text:
            self._keep(reply, None)
        else:
            self._session.withdraw()

    async def _show_conversation(self) -> None:
        self._prepared = None
        await self.query_one(Transcript).show(self._session.messages)
        self._status.show_context(0, 0)
        self._show_adapter()
        self._remember_questions()

    def _show_adapter(self) -> None:
        self._status.show_adapter(self._session.adapter, None)

    def _remember_questions(self) -> None:
        asked = [message.text for message in self._session.messages if message.role == "user"]
        self.query_one(Prompt).remember(asked)

    def action_scroll_transcript(self, direction: int) -> None:
        """Page through the conversation while the input keeps the focus."""
        transcript = self.query_one(Transcript)
        if direction < 0:
            transcript.scroll_page_up()
        else:
            transcript.scroll_page_down()

    @on(Markdown.LinkClicked)
    def _copy_link(self, event: Markdown.LinkClicked) -> None:
        self.app.copy_to_clipboard(event.href)
        notices.tell(self, f"Copied the link {event.href}")
