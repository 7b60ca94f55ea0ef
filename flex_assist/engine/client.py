"""The engine over a socket: finds the engine host, starts it when there is none, and asks it."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any, Final

from flex_assist.config import EngineSettings
from flex_assist.engine import wire
from flex_assist.engine.launch import HostProcess, kill_host
from flex_assist.engine.link import Gone, Link, SilentError, greet
from flex_assist.engine.protocol import (
    Finished,
    GenerateRequest,
    ModelFacts,
    Piece,
    TextPiece,
    Weights,
)
from flex_assist.engine.rendezvous import FileLock, rendezvous
from flex_assist.errors import EngineError
from flex_assist.locations import Locations

STOP_TIMEOUT_S: Final = 10.0
_LOOK_EVERY_S: Final = 0.03


class HostEngine:
    """``protocol.Engine`` in the user's engine host, which is started when it is needed."""

    def __init__(self, locations: Locations, settings: EngineSettings) -> None:
        self._locations = locations
        self._settings = settings
        self._place = rendezvous(locations)
        self._link: Link | None = None
        self._linking: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None

    async def facts(self, model: Path) -> ModelFacts:
        """Facts of a model file."""
        data = await self._call({"op": "facts", "model": wire.pack_path(model)})
        return wire.unpack_facts(data)

    async def tokenize(self, model: Path, pieces: Sequence[TextPiece]) -> list[list[int]]:
        """Token ids of each piece, without BOS or EOS."""
        texts = [{"text": piece.text, "special": piece.special} for piece in pieces]
        message = {"op": "tokenize", "model": wire.pack_path(model), "pieces": texts}
        tokens: list[list[int]] = await self._call(message)
        return tokens

    async def spell(
        self, model: Path, tokens: Sequence[int], *, control: bool = False
    ) -> list[bytes]:
        """What each token stands for. Control tokens spell nothing, or their names."""
        ids = list(map(int, tokens))
        message = {"op": "spell", "model": wire.pack_path(model), "tokens": ids, "control": control}
        spelled: list[bytes] = await self._call(message)
        return spelled

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Piece | Finished, None]:
        """Answer piece by piece, ``Finished`` last. Closing the iterator cancels the request."""
        message = {"op": "generate", **wire.pack_request(request)}
        async with contextlib.aclosing(self._stream(message)) as answers:
            async for answer in answers:
                if "item" in answer:
                    yield wire.unpack_item(answer["item"])

    async def warm(self, weights: Weights) -> None:
        """Load the weights now, so that the first request does not wait for them."""
        await self._call({"op": "warm", "weights": wire.pack_weights(weights)})

    async def status(self) -> dict[str, Any]:
        """Of the host, which is started if there is none; see ``host_status``."""
        status: dict[str, Any] = await self._call({"op": "status"})
        return status

    async def host_status(self) -> dict[str, Any] | None:
        """Of the host that runs, without starting one; None if none runs."""
        link = await greet(self._place)
        if link is None or not link.speaks_ours:
            return link.about if link is not None else None
        try:
            async with contextlib.aclosing(link.ask({"op": "status"})) as answers:
                async for answer in answers:
                    return answer.get("result")
        except Gone:
            return None
        finally:
            await link.close()
        return None

    async def stop_host(self) -> bool:
        """End the host, whatever it does; whether there was one.

        One that does not end when it is asked is killed: clients recover from that.

        Raises:
            EngineError: It does not end, and its process is not known.
        """
        try:
            link = await greet(self._place)
        except SilentError as error:
            return await asyncio.to_thread(kill_host, error.process)
        if link is None:
            return False
        try:
            link.tell({"op": "stop", "id": 0} if link.speaks_ours else {"op": "retire"})
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await link.wait_closed()
        except TimeoutError:
            return await asyncio.to_thread(kill_host, link.process)
        finally:
            await link.close()
        return True

    async def close(self) -> None:
        """Hang up. The host lives on."""
        link, self._link = self._link, None
        if link is not None and link.loop is asyncio.get_running_loop():
            await link.close()

    async def _call(self, message: dict[str, Any]) -> Any:
        result = None
        async with contextlib.aclosing(self._stream(message)) as answers:
            async for answer in answers:
                result = answer.get("result")
        return result

    async def _stream(self, message: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """All answers to a request; asked again once if the host went before it began."""
        for last_try in (False, True):
            begun = False
            link = await self._linked()
            try:
                async with contextlib.aclosing(link.ask(message)) as answers:
                    async for answer in answers:
                        begun = True
                        if "error" in answer:
                            raise wire.unpack_error(answer["error"])
                        yield answer
                        if "item" not in answer:
                            return
            except Gone as gone:
                if begun or last_try or not gone.politely:
                    raise EngineError(
                        "the engine host ended while it worked on a request; ask again, "
                        f"its log is {str(self._locations.engine_log)!r}"
                    ) from gone

    async def _linked(self) -> Link:
        """The open connection of this event loop, or a new one; one task makes it for all."""
        loop = asyncio.get_running_loop()
        if self._linking is None or self._linking[0] is not loop:
            self._linking, self._link = (loop, asyncio.Lock()), None
        async with self._linking[1]:
            if self._link is None or not self._link.open:
                self._link = await self._establish()
            return self._link

    async def _establish(self) -> Link:
        """Find the host; start it if there is none, or only an older one."""
        self._place.prepare()
        deadline_s = time.monotonic() + self._settings.start_timeout_s
        starting = FileLock(self._place.start_lock)
        process: HostProcess | None = None
        try:
            while time.monotonic() < deadline_s:
                # Taken before the last look: who holds it knows that nobody else is starting one.
                mine = starting.acquire()
                link = await greet(self._place)
                if link is not None and await link.suits():
                    return link
                if link is None and mine and process is None:
                    process = HostProcess(self._locations, self._settings)
                elif process is not None and process.ended():
                    process = None
                await asyncio.sleep(_LOOK_EVERY_S)
        finally:
            starting.release()
        raise EngineError(
            f"the engine host did not answer within {self._settings.start_timeout_s:g} s; "
            f"its log is {str(self._locations.engine_log)!r}, engine.start_timeout_s is the limit"
        )
