"""The engine of a repository that opted in to a server; this machine's where the server fails."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from flex_assist.engine import generation
from flex_assist.engine.protocol import (
    Engine,
    Finished,
    GenerateRequest,
    ModelFacts,
    Piece,
    TextPiece,
    Weights,
)
from flex_assist.engine.remote import outbound
from flex_assist.engine.remote import server as servers
from flex_assist.engine.remote.answering import Answering, Asked, NotHealed
from flex_assist.engine.remote.dialect import can_force
from flex_assist.engine.remote.faults import Misfit, RemoteFault
from flex_assist.engine.remote.patience import Patience
from flex_assist.engine.remote.server import PROBE, Server, Target
from flex_assist.engine.remote.transport import Transport
from flex_assist.errors import ConfigError, EngineError, FlexAssistError
from flex_assist.remote_settings import RemoteSettings

# What a server has may change while it runs: adapters are added, another model is started.
LOOK_AGAIN_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A server that was looked at.

    Attributes:
        same: Whether its vocabulary was shown to be the local base's; None if it cannot be asked.
    """

    server: Server
    same: bool | None
    model: Path
    until_s: float


class RemoteEngine:
    """``protocol.Engine`` on the server of ``settings``.

    Args:
        local: Knows the vocabulary, and answers what the server may not or does not. It loads no
            weights before it must.
    """

    def __init__(self, settings: RemoteSettings, local: Engine) -> None:
        self._settings = settings
        self._local = local
        self._transport = Transport(settings)
        self._patience = Patience(settings.first_timeout_s)
        self._known: Known | None = None

    async def facts(self, model: Path) -> ModelFacts:
        """Facts of the local model file: the base that the server has, too."""
        return await self._local.facts(model)

    async def tokenize(self, model: Path, pieces: Sequence[TextPiece]) -> list[list[int]]:
        """Token ids of each piece, by the local model file."""
        return await self._local.tokenize(model, pieces)

    async def spell(
        self, model: Path, tokens: Sequence[int], *, control: bool = False
    ) -> list[bytes]:
        """What each token stands for, by the local model file."""
        return await self._local.spell(model, tokens, control=control)

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Piece | Finished, None]:
        """Answer piece by piece, ``Finished`` last. Closing the iterator hangs up on the server.

        ``served`` of each part says who computed it; ``warning`` what to mend if that was not the
        server.
        """
        why, warning = "", ""
        if self._patience.pausing:
            why = warning = self._patience.reason
        elif not (why := await self._kept(request)):
            begun = False
            try:
                async with contextlib.aclosing(self._remote(request)) as answer:
                    async for item in answer:
                        begun = True
                        yield item
                return
            except (RemoteFault, ConfigError) as fault:
                why, warning = str(fault), self._failed(fault)
                if begun:
                    raise EngineError(f"{fault}, in the middle of an answer; ask again") from fault
        async with contextlib.aclosing(self._here(request, why, warning)) as answer:
            async for item in answer:
                yield item

    async def warm(self, weights: Weights) -> None:
        """Look at the server; load the weights here only if it fails."""
        try:
            known = await self._look(weights.model)
            self._fit(known, servers.choose(known.server, self._settings, weights))
        except (RemoteFault, ConfigError) as fault:
            self._failed(fault)
            if not self._settings.fallback:
                raise self._nowhere(str(fault)) from fault
            await self._local.warm(weights)

    async def check(self, weights: Weights) -> str:
        """One line about the server, for ``doctor``; asks for no text and so sends no code.

        Raises:
            RemoteFault, ConfigError: With what to mend.
        """
        known = await self._look(weights.model)
        target = servers.choose(known.server, self._settings, weights)
        form = "token ids" if self._fit(known, target) else "text"
        others = sorted({*known.server.models, *known.server.loras} - {target.model})
        adapters = f", adapters {', '.join(others)}" if others else ""
        return f"{known.server.make} with {target.model}{adapters}; prompts as {form}"

    async def status(self) -> dict[str, Any]:
        """Of the connection; the engine host of this machine has its own."""
        known = self._known
        remote = {
            "host": self._settings.host,
            "make": known.server.make if known else None,
            "models": list(known.server.models) if known else [],
            "pausing": self._patience.pausing,
            "reason": self._patience.reason,
        }
        return {"remote": remote}

    async def close(self) -> None:
        """Hang up, here and there."""
        await self._transport.close()
        await self._local.close()

    # --- there ------------------------------------------------------------------------------

    async def _remote(self, request: GenerateRequest) -> AsyncGenerator[Piece | Finished, None]:
        started_s, silent = time.monotonic(), True
        try:
            async with contextlib.aclosing(self._asked(request)) as answer:
                async for item in answer:
                    silent = False
                    self._patience.answered()
                    yield item
        except (asyncio.CancelledError, GeneratorExit):
            if silent:
                self._patience.withdrawn(time.monotonic() - started_s, self._settings.host)
            raise

    async def _asked(self, request: GenerateRequest) -> AsyncGenerator[Piece | Finished, None]:
        model = request.weights.model
        known = await self._look(model)
        target = servers.choose(known.server, self._settings, request.weights)
        as_ids, facts = self._fit(known, target), await self._local.facts(model)
        healed = await self._healed(request)
        # Where an answer cannot be made to begin with the word, it may do so by itself; else the
        # word is sent as it is.
        tries = [healed, replace(request, heal=False)] if healed.heal else [healed]
        for one in tries:
            asked = Asked(
                make=known.server.make, target=target, request=one, facts=facts,
                prompt=one.tokens if as_ids else await self._text(one),
            )  # fmt: skip
            served = f"computed by {target.label!r} at {self._settings.host}"
            answering = Answering(self._transport, self._settings, asked, served)
            try:
                async with contextlib.aclosing(answering.run()) as answer:
                    async for item in answer:
                        yield item
                return
            except NotHealed:
                if one is tries[-1] or can_force(known.server.make):
                    raise RemoteFault(f"{self._settings.host} ignores the grammar") from None

    async def _healed(self, request: GenerateRequest) -> GenerateRequest:
        last = request.tokens[-generation.MOST_HEALED_TOKENS :] if request.heal else ()
        spelled = await self._local.spell(request.weights.model, last) if last else []
        return generation.heal(request, _Spelled(dict(zip(last, spelled, strict=True))))

    async def _text(self, request: GenerateRequest) -> str:
        text = await outbound.as_text(self._local, request.weights.model, request.tokens)
        if text is None:
            raise Misfit(
                "the prompt cannot be sent as text: it spells control tokens; set remote's "
                "`prompt` to tokens, if the server takes token ids"
            )
        return text

    async def _look(self, model: Path) -> Known:
        """What the server is; asked again after a while."""
        known = self._known
        if known and known.model == model and time.monotonic() < known.until_s:
            return known
        try:
            server = await servers.look(self._transport, self._settings.host)
            named = self._settings.base or next(iter(server.bases), "")
            [ours] = await self._local.tokenize(model, [TextPiece(text=PROBE)])
            same = await servers.same_vocabulary(self._transport, self._settings.host, named, ours)
        except TimeoutError:
            raise RemoteFault(f"{self._settings.host} does not say what it has") from None
        until_s = time.monotonic() + LOOK_AGAIN_S
        self._known = Known(server=server, same=same, model=model, until_s=until_s)
        return self._known

    def _fit(self, known: Known, target: Target) -> bool:
        """Whether prompts go there as token ids.

        Raises:
            Misfit: The server's vocabulary is not the local base's.
        """
        wanted = self._settings.prompt
        if known.same is False and wanted != "text":
            raise Misfit(
                f"{target.model!r} at {self._settings.host} has another vocabulary than the base "
                f"model {known.model.name!r} of this machine; set model.base to the same model"
            )
        return wanted == "tokens" or (wanted == "auto" and known.same is True)

    def _failed(self, fault: FlexAssistError) -> str:
        """Leave the server alone for a while; gives what people are to mend.

        One that has not what a request needs may have what others do.
        """
        if isinstance(fault, Misfit):
            return str(fault)
        self._patience.failed(str(fault))
        return self._patience.reason

    # --- here -------------------------------------------------------------------------------

    async def _kept(self, request: GenerateRequest) -> str:
        """Why a request must not leave the machine; empty if it may."""
        if request.keep_local:
            return request.keep_local
        spelled = await self._local.spell(request.weights.model, request.tokens)
        found = await asyncio.to_thread(outbound.secret_in, spelled)
        return f"a secret in the prompt ({found})" if found else ""

    async def _here(
        self, request: GenerateRequest, why: str, warning: str
    ) -> AsyncGenerator[Piece | Finished, None]:
        """This machine's answer, with a word on why it is this machine's."""
        if not self._settings.fallback:
            raise self._nowhere(why)
        served = f"computed on this machine: {why}"
        if warning:
            warning = f"{warning}. Until that is mended, this machine computes"
        try:
            async with contextlib.aclosing(self._local.generate(request)) as answer:
                async for item in answer:
                    yield replace(item, served=served, warning=warning)
        except FlexAssistError as error:
            raise EngineError(f"{why}; nor can this machine answer: {error}") from error

    def _nowhere(self, why: str) -> EngineError:
        return EngineError(
            f"{why}; this machine may not compute instead, for remote's `fallback` is off"
        )


class _Spelled:
    """``generation.Spelling`` of a few tokens."""

    def __init__(self, spelled: dict[int, bytes]) -> None:
        self._spelled = spelled

    def token_bytes(self, token: int) -> bytes:
        return self._spelled[token]
