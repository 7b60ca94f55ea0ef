"""One client of the engine host: who it is, what it asks, what it gets."""

import asyncio
import contextlib
import hmac
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from flex_assist import __version__
from flex_assist.engine import wire
from flex_assist.engine.local import LocalEngine
from flex_assist.engine.protocol import PROTOCOL_VERSION
from flex_assist.errors import Cancelled, EngineError, FlexAssistError

_log = logging.getLogger(__name__)

HELLO_TIMEOUT_S: Final = 5.0
# An editor may be halted for a while, by its user or by the machine.
READ_TIMEOUT_S: Final = 30.0
MAX_REQUESTS: Final = 64


@dataclass(slots=True, kw_only=True)
class Activity:
    """How busy the host is.

    Attributes:
        begins: Called as each request begins.
    """

    begins: Callable[[], None] = lambda: None
    requests: int = 0
    last_s: float = field(default_factory=time.monotonic)

    @contextlib.contextmanager
    def request(self) -> Iterator[None]:
        """Around the work on one request."""
        self.requests += 1
        self.begins()
        try:
            yield
        finally:
            self.requests -= 1
            self.last_s = time.monotonic()

    @property
    def idle_s(self) -> float:
        """Seconds since the last request ended; 0 while there is one."""
        return 0.0 if self.requests else time.monotonic() - self.last_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What a connection needs of its host.

    Attributes:
        describe: The host's part of ``status``.
        stop: End the host now.
        retire: Let another host take over; end when nothing is left to do.
    """

    engine: LocalEngine
    token: str
    activity: Activity
    describe: Callable[[], dict[str, Any]]
    stop: Callable[[], None]
    retire: Callable[[], None]


async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Tell a client that there are too many, whoever it is, and hang up."""
    message = "too many programs use the engine host at once; end one of them"
    with contextlib.suppress(wire.FrameError, OSError, TimeoutError):
        async with asyncio.timeout(HELLO_TIMEOUT_S):
            await wire.read(reader, wire.MAX_HELLO_BYTES)
        writer.write(wire.frame({"error": {"kind": "full", "message": message}}))
    writer.close()


class Connection:
    """Serves one client until either side ends it."""

    def __init__(
        self, service: Service, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._service = service
        self._reader = reader
        self._writer = writer
        self._tasks: dict[int, asyncio.Task[None]] = {}

    async def serve(self) -> None:
        """Answer requests; whatever the client sends, this ends without an error."""
        try:
            if await self._greet():
                while (message := await wire.read(self._reader)) is not None:
                    self._take(message)
        except (wire.FrameError, OSError, TimeoutError) as error:
            _log.warning("a connection is given up: %s", error)
        finally:
            self._writer.close()
            for task in list(self._tasks.values()):
                task.cancel()

    def say_goodbye(self) -> None:
        """Tell the client that what is not answered yet will not be, and hang up."""
        self._send({"bye": True})
        self._writer.close()

    async def _greet(self) -> bool:
        """Whether the client is the user's own and speaks this version's language."""
        async with asyncio.timeout(HELLO_TIMEOUT_S):
            hello = await wire.read(self._reader, wire.MAX_HELLO_BYTES)
            if hello is None:
                return False
            given = hello.get("token")
            if hello.get("op") != "hello" or not isinstance(given, str):
                raise wire.FrameError("it did not say hello")
            if not hmac.compare_digest(given.encode(), self._service.token.encode()):
                self._send({"error": {"kind": "token", "message": "the token is wrong"}})
                raise wire.FrameError("its token is wrong")
            same = hello.get("protocol") == PROTOCOL_VERSION
            about = {"protocol": PROTOCOL_VERSION, "version": __version__}
            self._send({"ok": same, **about, **self._service.describe()})
            if not same:
                following = await wire.read(self._reader, wire.MAX_HELLO_BYTES)
                if following is not None and following.get("op") == "retire":
                    self._service.retire()
            return same

    def _take(self, message: dict[str, Any]) -> None:
        number = message.get("id")
        if message.get("op") == "retire":
            self._service.retire()
        elif type(number) is not int:
            self._send({"id": None, "error": _fault("a request needs a whole number as its id")})
        elif message.get("op") == "cancel":
            if number in self._tasks:
                self._tasks[number].cancel()
        elif number in self._tasks:
            self._send({"id": number, "error": _fault(f"request {number} is not answered yet")})
        elif len(self._tasks) >= MAX_REQUESTS:
            self._send({"id": number, "error": _fault("too many requests at once; wait for some")})
        else:
            task = asyncio.create_task(self._answer(number, message))
            self._tasks[number] = task
            task.add_done_callback(lambda task: self._ended(number, task))

    def _ended(self, number: int, task: asyncio.Task[None]) -> None:
        del self._tasks[number]
        if task.cancelled():
            error = wire.pack_error(Cancelled("the request was cancelled"))
            self._send({"id": number, "error": error})

    async def _answer(self, number: int, message: dict[str, Any]) -> None:
        try:
            async with contextlib.aclosing(self._results(message)) as results:
                async for part in results:
                    self._send({"id": number, **part})
                    await self._drain()
        except FlexAssistError as error:
            self._send({"id": number, "error": wire.pack_error(error)})
        except Exception as error:
            # The host serves everybody: a fault in one request must not end it, nor leave it open.
            _log.exception("request %r failed", message.get("op"))
            internal = EngineError(f"internal error of the engine: {error!r}; please report it")
            self._send({"id": number, "error": wire.pack_error(internal)})

    async def _results(self, message: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        operation, service = message.get("op"), self._service
        if operation == "status":
            yield {"result": {**service.describe(), **await service.engine.status()}}
        elif operation == "stop":
            yield {"result": True}
            service.stop()
        else:
            with service.activity.request():
                async for part in self._work(message):
                    yield part

    async def _work(self, message: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        engine = self._service.engine
        match message.get("op"):
            case "facts":
                facts = await engine.facts(wire.unpack_path(message, "model"))
                yield {"result": wire.pack_facts(facts)}
            case "tokenize":
                model, pieces = wire.unpack_path(message, "model"), wire.unpack_pieces(message)
                yield {"result": await engine.tokenize(model, pieces)}
            case "spell":
                model, tokens = (
                    wire.unpack_path(message, "model"),
                    wire.items(message, "tokens", int),
                )
                control = wire.field(message, "control", bool)
                yield {"result": await engine.spell(model, tokens, control=control)}
            case "warm":
                await engine.warm(wire.unpack_weights(message))
                yield {"result": True}
            case "generate":
                request = wire.unpack_request(message)
                async with contextlib.aclosing(engine.generate(request)) as answer:
                    async for item in answer:
                        yield {"item": wire.pack_item(item)}
                yield {"result": True}
            case other:
                raise EngineError(f"the engine host does not know the operation {other!r}")

    async def _drain(self) -> None:
        """Wait until the client has read; one that reads no more is given up."""
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                await self._writer.drain()
        except TimeoutError:
            _log.warning("a client that reads no more is given up")
            # Not closed, which would wait for it: this ends ``serve``.
            self._writer.transport.abort()
        except ConnectionError:
            return

    def _send(self, message: dict[str, Any]) -> None:
        if not self._writer.is_closing():
            self._writer.write(wire.frame(message))


def _fault(message: str) -> dict[str, str]:
    return wire.pack_error(EngineError(message))
