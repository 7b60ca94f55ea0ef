"""One answer of a server, as the engine's protocol has it: limits, stop texts, token healing."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from flex_assist.engine.generation import Answer
from flex_assist.engine.protocol import Finished, GenerateRequest, ModelFacts, Piece
from flex_assist.engine.remote import dialect
from flex_assist.engine.remote.dialect import Part
from flex_assist.engine.remote.faults import RemoteFault
from flex_assist.engine.remote.server import Make, Target
from flex_assist.engine.remote.transport import Transport
from flex_assist.remote_settings import RemoteSettings

# The longest tokens of vocabularies are runs of blanks; a server that sends more does not count.
MOST_CHARACTERS_PER_TOKEN: Final = 512


class NotHealed(Exception):
    """The answer does not go on with the word that was begun; nothing of it was given away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request, ready to be sent.

    Attributes:
        request: Healed, if it could be: then it forces bytes.
        prompt: Its tokens, or what they spell.
    """

    make: Make
    target: Target
    request: GenerateRequest
    prompt: Sequence[int] | str
    facts: ModelFacts


class Answering:
    """Reads one answer.

    Args:
        served: Where it is computed, for people.
    """

    def __init__(
        self, transport: Transport, settings: RemoteSettings, asked: Asked, served: str
    ) -> None:
        self._transport = transport
        self._settings = settings
        self._asked = asked
        self._served = served
        self._started_s = time.perf_counter()
        self._first_s: float | None = None
        self._counts = Part()

    async def run(self) -> AsyncGenerator[Piece | Finished, None]:
        """Piece by piece, ``Finished`` last.

        Raises:
            RemoteFault: The server failed; what was given stands.
            NotHealed: See there.
        """
        request = self._asked.request
        forced = request.forced.decode("utf-8")
        answer = Answer(request.stop_texts, request.forced, request.heal)
        seen, reason = "", None
        async with contextlib.aclosing(self._parts()) as parts:
            async for part in parts:
                # JSON can hold halves of characters, which are no text.
                text = part.text.encode("utf-8", "replace")
                seen = self._checked(seen + text.decode(), forced, part.reason is not None)
                self._count(part)
                if text and (shown := answer.add(text)):
                    yield Piece(text=shown, form="remote", served=self._served)
                reason = part.reason or reason
                if answer.stopped:
                    break
        if shown := answer.rest():
            yield Piece(text=shown, form="remote", served=self._served)
        if reason is None and not answer.stopped:
            raise RemoteFault(f"{self._settings.host} cut its answer off")
        yield self._finished(answer, "text" if answer.stopped else reason or "end")

    def _checked(self, seen: str, forced: str, ended: bool) -> str:
        request = self._asked.request
        if len(seen) > MOST_CHARACTERS_PER_TOKEN * request.max_tokens:
            raise RemoteFault(f"{self._settings.host} sends more than it was asked for")
        fits = seen.startswith(forced) or (forced.startswith(seen) and not ended)
        # The end comes after the text: an answer that is done has to have said the word by now.
        if forced and not fits:
            raise NotHealed
        return seen

    async def _parts(self) -> AsyncGenerator[Part, None]:
        """The parts as they come, none waited for longer than the settings say."""
        asked, settings = self._asked, self._settings
        path, root = dialect.path_of(asked.make)
        address = self._transport.address(path, root=root)
        body = dialect.body(
            asked.make, asked.target, asked.request, asked.prompt, asked.facts.end_ids
        )
        deadline_s = self._started_s + settings.total_timeout_s
        async with contextlib.aclosing(self._transport.events(address, body)) as events:
            while (event := await self._next(events, deadline_s)) is not None:
                part = dialect.read(asked.make, event)
                if (part.text or part.reason) and self._first_s is None:
                    self._first_s = time.perf_counter()
                yield part

    async def _next(
        self, events: AsyncGenerator[dict[str, Any], None], deadline_s: float
    ) -> dict[str, Any] | None:
        settings, first = self._settings, self._first_s is None
        limit_s = settings.first_timeout_s if first else settings.stall_timeout_s
        left_s = deadline_s - time.perf_counter()
        try:
            async with asyncio.timeout(max(0.0, min(limit_s, left_s))):
                return await anext(events, None)
        except TimeoutError:
            if left_s < limit_s:
                what = f"is not done within {settings.total_timeout_s:g} s"
            elif first:
                what = f"gives no text within {limit_s:g} s"
            else:
                what = f"stopped in the middle for {limit_s:g} s"
            raise RemoteFault(f"{settings.host} {what}") from None

    def _count(self, part: Part) -> None:
        known = {
            name: value
            for name in ("prompt_tokens", "reused_tokens", "completion_tokens")
            if (value := getattr(part, name)) is not None
        }
        self._counts = replace(self._counts, **known)

    def _finished(self, answer: Answer, reason: dialect.Reason) -> Finished:
        ended_s = time.perf_counter()
        first_s = self._first_s or ended_s
        counts, request = self._counts, self._asked.request
        return Finished(
            text=answer.shown(),
            reason=reason,
            prompt_tokens=counts.prompt_tokens or len(request.tokens),
            reused_tokens=counts.reused_tokens or 0,
            completion_tokens=counts.completion_tokens or 0,
            queue_ms=0.0,
            # The way there and the wait in the server's queue are part of it.
            prefill_ms=(first_s - self._started_s) * 1000,
            decode_ms=(ended_s - first_s) * 1000,
            form="remote",
            served=self._served,
        )
