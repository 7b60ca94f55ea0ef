"""One answer: attachments, adapter, prompt, engine. What the terminal chat and others call."""

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flex_assist.adapters.router import Route, Router
from flex_assist.chat import attachments as files_in_messages
from flex_assist.chat.attachments import Attachment
from flex_assist.chat.conversations import Message
from flex_assist.chat.project_files import ProjectFiles
from flex_assist.chat.template import PLAIN_STOP_TEXTS
from flex_assist.chat.window import Exchange, fit
from flex_assist.config import Settings
from flex_assist.engine.protocol import (
    Engine,
    Finished,
    GenerateRequest,
    ModelFacts,
    Piece,
    Priority,
)
from flex_assist.errors import DataError, EngineError
from flex_assist.language import by_path, by_word
from flex_assist.locations import Locations
from flex_assist.models.store import answering_path, name_of

SYSTEM = (
    "You are FLeX-Assist, a coding assistant. Answer briefly and exactly."
    " Put code in fenced Markdown blocks."
)
_FENCED_LANGUAGE = re.compile(r"^ {0,3}`{3,}([A-Za-z+#-]+)\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Comes first: what the model is about to read.

    Attributes:
        adapter: Name of the adapter that answers, or ``base``.
        reason: Why this one, for people.
        prompt_tokens: Length of the prompt.
        context_tokens: What the context holds, prompt and answer together.
        dropped: How many old exchanges did not fit.
        cut: Labels of attachments that were shortened or left out.
    """

    adapter: str
    reason: str
    prompt_tokens: int
    context_tokens: int
    dropped: int
    cut: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """Comes last.

    Attributes:
        ended: ``end`` or ``text``: the model was done; ``length``: it ran out of room.
        seconds: From the question to the end of the answer.
        tokens_per_s: While the answer was written, reading the prompt not counted.
        served, warning: As in ``engine.protocol.Piece``.
    """

    text: str
    adapter: str
    ended: Literal["end", "text", "length"]
    prompt_tokens: int
    reused_tokens: int
    tokens: int
    seconds: float
    tokens_per_s: float
    served: str = ""
    warning: str = ""


class ChatService:
    """Answers questions about one repository.

    Args:
        root: The repository.
    """

    def __init__(
        self, engine: Engine, settings: Settings, locations: Locations, root: Path
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._locations = locations
        self._root = root
        self._router = Router(locations, root, self.base)
        self.files = ProjectFiles(root)

    @property
    def base(self) -> str:
        """The base model's name, for people."""
        return name_of(self._settings.model.base)

    @property
    def server(self) -> str:
        """The host that answers in this machine's place, for people; empty where none does."""
        return self._settings.remote.host if self._settings.remote.url else ""

    @property
    def root(self) -> Path:
        """The repository."""
        return self._root

    def adapters(self) -> list[str]:
        """Names that may be chosen by hand."""
        return self._router.names()

    def route(self, messages: Sequence[Message], choice: str = "auto") -> Route:
        """The adapter that would answer, and why. Files are known by their names only.

        Raises:
            ConfigError: ``choice`` names an adapter that does not exist.
        """
        asked = (message.text for message in reversed(messages) if message.role == "user")
        named = (_language_in(text) for text in asked)
        return self._router.route(next(filter(None, named), None), choice)

    def attach(self, text: str) -> tuple[Attachment, ...]:
        """Read the files that a message names.

        Raises:
            DataError: One of them cannot or must not be attached.
        """
        return files_in_messages.attach(text, self._root, self.files)

    async def warm(self, choice: str = "auto") -> None:
        """Load the weights now, so that the first question does not wait for them."""
        route = self._router.route(None, choice)
        await self._engine.warm(route.weights(await self._model()))

    async def answer(
        self, messages: Sequence[Message], choice: str = "auto"
    ) -> AsyncGenerator[Prepared | Piece | Answered, None]:
        """Answer the last message. Closing the iterator, or cancelling, stops the engine.

        Files named in the messages are read now, so the model sees them as they are.

        Args:
            messages: The conversation; the last one is the question.
            choice: ``auto`` (by the language of the attached files), ``none`` or an adapter's name.

        Raises:
            ConfigError: ``choice`` names an adapter that does not exist.
            DataError: An attachment of the question is refused, or the question is too long.
            EngineError: The engine failed.
            ModelError: The model or its chat template cannot be used.
        """
        started = time.perf_counter()
        exchanges = await asyncio.to_thread(self._exchanges, messages)
        route = self._router.route(self._language(exchanges), choice)
        model = await self._model()
        facts = await self._engine.facts(model)
        context = min(self._settings.engine.context_tokens, facts.context_tokens or 2**31)
        reserve = min(self._settings.chat.max_tokens, context // 2)
        prompt = await fit(self._engine, model, facts, SYSTEM, exchanges, context - reserve)
        yield Prepared(
            adapter=route.name,
            reason=route.reason,
            prompt_tokens=len(prompt.tokens),
            context_tokens=context,
            dropped=prompt.dropped,
            cut=prompt.cut,
        )
        request = self._request(route, model, facts, prompt.tokens, context)
        async with contextlib.aclosing(_generate(self._engine, request)) as stream:
            async for item in stream:
                if isinstance(item, Finished):
                    yield _answered(item, route, time.perf_counter() - started)
                    return
                yield item
        raise EngineError("the engine ended the answer without a word; ask again")

    def _request(
        self, route: Route, model: Path, facts: ModelFacts, tokens: tuple[int, ...], context: int
    ) -> GenerateRequest:
        return GenerateRequest(
            weights=route.weights(model),
            tokens=tokens,
            max_tokens=min(self._settings.chat.max_tokens, context - len(tokens)),
            stop_texts=PLAIN_STOP_TEXTS if facts.chat_template is None else (),
            temperature=self._settings.chat.temperature,
            seed=len(tokens),
            priority=Priority.CHAT,
        )

    async def _model(self) -> Path:
        # The first use of a model may write it anew in the form that is served: seconds of work.
        return await asyncio.to_thread(answering_path, self._settings.model.base, self._locations)

    def _exchanges(self, messages: Sequence[Message]) -> list[Exchange]:
        """Pair questions with answers; a question without one joins the next."""
        exchanges: list[Exchange] = []
        pending: list[str] = []
        attached: list[Attachment] = []
        for index, message in enumerate(messages):
            if message.role == "user":
                pending.append(message.text)
                last = index == len(messages) - 1
                attached += self.attach(message.text) if last else self._still_there(message.text)
            elif pending and message.text.strip():
                exchanges.append(_exchange(pending, attached, message.text))
                pending, attached = [], []
        if not pending:
            raise DataError("there is no question to answer")
        return [*exchanges, _exchange(pending, attached, None)]

    def _still_there(self, text: str) -> tuple[Attachment, ...]:
        """Attachments of an earlier message: a file that is gone since is no reason to stop."""
        try:
            return self.attach(text)
        except DataError:
            return ()

    def _language(self, exchanges: Sequence[Exchange]) -> str | None:
        """The language that a conversation is about: the latest attachment or code block tells."""
        for exchange in reversed(exchanges):
            for attachment in exchange.attachments:
                if attachment.language:
                    return attachment.language.name
            if fenced := _fenced_language(exchange.question):
                return fenced
        return None


def _language_in(text: str) -> str | None:
    named = (by_path(reference.path) for reference in files_in_messages.references(text))
    found = next(filter(None, named), None)
    return found.name if found else _fenced_language(text)


def _fenced_language(text: str) -> str | None:
    words = (by_word(word) for word in _FENCED_LANGUAGE.findall(text))
    found = next(filter(None, words), None)
    return found.name if found else None


def _exchange(questions: list[str], attachments: list[Attachment], answer: str | None) -> Exchange:
    return Exchange(question="\n\n".join(questions), attachments=tuple(attachments), answer=answer)


async def _generate(
    engine: Engine, request: GenerateRequest
) -> AsyncGenerator[Piece | Finished, None]:
    """The engine's stream, closed for certain: closing is what cancels the request."""
    stream: AsyncIterator[Piece | Finished] = engine.generate(request)
    try:
        async for item in stream:
            yield item
    finally:
        if isinstance(stream, AsyncGenerator):
            await stream.aclose()


def _answered(finished: Finished, route: Route, seconds: float) -> Answered:
    decode_s = finished.decode_ms / 1000
    return Answered(
        text=finished.text,
        adapter=route.name,
        ended=finished.reason,
        prompt_tokens=finished.prompt_tokens,
        reused_tokens=finished.reused_tokens,
        tokens=finished.completion_tokens,
        seconds=seconds,
        tokens_per_s=finished.completion_tokens / decode_s if decode_s > 0 else 0.0,
        served=finished.served,
        warning=finished.warning,
    )
