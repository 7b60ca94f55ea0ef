"""A client's connection to the engine host."""

import asyncio
import contextlib
import itertools
import logging
import re
from collections.abc import AsyncGenerator
from typing import Any, Final

from flex_assist import __version__
from flex_assist.engine import wire
from flex_assist.engine.protocol import PROTOCOL_VERSION
from flex_assist.engine.rendezvous import Rendezvous
from flex_assist.errors import EngineError

_log = logging.getLogger(__name__)

HELLO_TIMEOUT_S: Final = 5.0
# Who waits for longer asks whether the host is still there: it answers that while it works.
QUIET_S: Final = 3.0
# A host that reads no more must not keep a program from ending.
CLOSE_TIMEOUT_S: Final = 1.0


async def greet(place: Rendezvous) -> "Link | None":
    """Connect to the host that listens; None if none does, or it does not know us.

    Raises:
        EngineError: It is there but says nothing, or has no place for another client.
    """
    try:
        reader, writer = await place.connect()
    except BlockingIOError as error:
        # More wait to be let in than it has room for.
        raise SilentError(place.process()) from error
    except OSError:
        return None
    hello = {
        "op": "hello",
        "protocol": PROTOCOL_VERSION,
        "version": __version__,
        "token": place.token(),
    }
    try:
        writer.write(wire.frame(hello))
        async with asyncio.timeout(HELLO_TIMEOUT_S):
            answer = await wire.read(reader)
    # Before OSError, of which it is one.
    except TimeoutError as error:
        writer.close()
        raise SilentError(place.process()) from error
    except (OSError, wire.FrameError):
        answer = None
    if answer is None or "error" in answer:
        writer.close()
        _refused(answer)
        return None
    return Link(reader, writer, answer)


class SilentError(EngineError):
    """A host is there, and says nothing.

    Args:
        process: Its id, if it is known.
    """

    def __init__(self, process: int | None) -> None:
        super().__init__(
            "the engine host is there but does not answer; end it with: flex-assist engine stop"
        )
        self.process = process


class Gone(Exception):
    """The connection ended.

    Args:
        politely: The host has not begun this request: it said goodbye, or was gone before it was
            asked.
    """

    def __init__(self, politely: bool) -> None:
        super().__init__("the connection ended")
        self.politely = politely


class Link:
    """A connection to a host that knows us. For one event loop."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        about: dict[str, Any],
    ) -> None:
        self.about = about
        self.loop = asyncio.get_running_loop()
        self._reader = reader
        self._writer = writer
        self._numbers = itertools.count(1)
        self._inboxes: dict[int, asyncio.Queue[dict[str, Any] | Gone]] = {}
        self._politely = False
        # The request that was written last.
        self._last = 0
        self._heard = asyncio.Event()
        self._listening = asyncio.create_task(self._listen())

    @property
    def process(self) -> int | None:
        """The host's process id, if it said so."""
        process = self.about.get("process")
        return process if isinstance(process, int) else None

    @property
    def speaks_ours(self) -> bool:
        """Whether the host has our version of the protocol."""
        return self.about.get("protocol") == PROTOCOL_VERSION

    async def suits(self) -> bool:
        """Whether to stay; else the host is asked to make room for ours, and this is closed.

        Raises:
            EngineError: The host is newer than we are and speaks another protocol.
        """
        theirs = (self.about.get("protocol"), _parts(str(self.about.get("version"))))
        ours = (PROTOCOL_VERSION, _parts(__version__))
        if not isinstance(theirs[0], int) or theirs < ours:
            self.tell({"op": "retire"})
            await self.close()
            return False
        if not self.speaks_ours:
            await self.close()
            raise EngineError(
                f"the engine host is of version {self.about.get('version')!r}, newer than this "
                f"({__version__}); restart this program, or stop it with: flex-assist engine stop"
            )
        return True

    @property
    def open(self) -> bool:
        """Whether requests can be sent."""
        return not self._listening.done()

    async def ask(self, message: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """Send a request; its answers, the last of which holds ``result`` or ``error``.

        Raises:
            Gone: The connection ended before the last.
            SilentError: The host hangs; the connection is given up.
        """
        if not self.open:
            raise Gone(politely=True)
        number = next(self._numbers)
        data = wire.frame({"id": number, **message})
        inbox: asyncio.Queue[dict[str, Any] | Gone] = asyncio.Queue()
        self._inboxes[number] = inbox
        self._last = number
        try:
            self._writer.write(data)
            while isinstance(answer := await self._next(inbox), dict):
                if "item" not in answer:
                    # Answered: nothing to cancel.
                    self._inboxes.pop(number, None)
                yield answer
            raise answer
        finally:
            if self._inboxes.pop(number, None) is not None and self.open:
                self._writer.write(wire.frame({"op": "cancel", "id": number}))

    async def _next(self, inbox: "asyncio.Queue[dict[str, Any] | Gone]") -> dict[str, Any] | Gone:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(QUIET_S):
                    return await inbox.get()
            await self._must_speak()

    async def _must_speak(self) -> None:
        """Ask a host that has been quiet whether it is still there."""
        self._heard.clear()
        self.tell({"op": "status", "id": next(self._numbers)})
        try:
            async with asyncio.timeout(HELLO_TIMEOUT_S):
                await self._heard.wait()
        except TimeoutError as error:
            self._listening.cancel()
            raise SilentError(self.process) from error

    def tell(self, message: dict[str, Any]) -> None:
        """Send what has no answer."""
        self._writer.write(wire.frame(message))

    async def wait_closed(self) -> None:
        """Until the host hangs up."""
        await asyncio.wait([self._listening])

    async def close(self) -> None:
        """Hang up; open requests are cancelled by the host."""
        self._listening.cancel()
        await asyncio.wait([self._listening])
        # A task that was cancelled before its first step has not closed anything.
        self._writer.close()
        closed = asyncio.ensure_future(self._writer.wait_closed())
        await asyncio.wait([closed], timeout=CLOSE_TIMEOUT_S)
        if not closed.done():
            self._writer.transport.abort()
        with contextlib.suppress(OSError):
            await closed

    async def _listen(self) -> None:
        try:
            while (message := await wire.read(self._reader)) is not None:
                self._heard.set()
                self._politely = self._politely or bool(message.get("bye"))
                inbox = self._inboxes.get(message.get("id", 0))
                if inbox is not None:
                    inbox.put_nowait(message)
        except (wire.FrameError, OSError) as error:
            _log.warning("the engine host cannot be understood: %s", error)
        finally:
            self._writer.close()
            # Who waits for a sign of life finds the end in the inbox.
            self._heard.set()
            # Nobody has what was just written, and a goodbye is lost with the connection.
            lost = isinstance(self._reader.exception(), BrokenPipeError)
            for number, inbox in self._inboxes.items():
                inbox.put_nowait(Gone(self._politely or (lost and number == self._last)))


def _refused(answer: dict[str, Any] | None) -> None:
    error = (answer or {}).get("error")
    if isinstance(error, dict) and error.get("kind") == "full":
        raise EngineError(str(error.get("message")))


def _parts(version: str) -> tuple[int, ...]:
    """The numbers of a version, in their order of weight."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:4])
