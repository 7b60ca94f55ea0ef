"""The wires: standard input and output, or one TCP connection from this machine."""

import asyncio
import logging
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from pygls.io_ import StdinAsyncReader, StdoutWriter, run_async

from flex_assist.errors import ConfigError
from flex_lsp.greeting import FirstMessage
from flex_lsp.streams import Streams

if TYPE_CHECKING:
    from flex_lsp.server import FlexServer

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})

logger = logging.getLogger(__name__)


class YieldingReader:
    """Lets a request begin before the next message is read.

    A stream that holds several messages gives them without a pause. A request that has not begun
    would then see the text as a later message leaves it. A pipe read in a thread always pauses.
    """

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader

    async def readline(self) -> bytes:
        """One line, or what there is of it at the end."""
        await asyncio.sleep(0)
        return await self._reader.readline()

    async def readexactly(self, count: int) -> bytes:
        """Exactly ``count`` bytes."""
        return await self._reader.readexactly(count)


async def serve_streams(server: "FlexServer", streams: Streams, first: FirstMessage) -> int:
    """Serve until the editor exits or its pipe closes. Gives the process's exit code.

    Args:
        first: The message that was read, and perhaps answered, before the server was there.
    """
    protocol = server.protocol
    protocol.set_writer(StdoutWriter(streams.write))
    protocol.receive(first.body, answered=first.answered)
    # A reader waits in a thread; a thread of its own, so that other work cannot hold it up.
    executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="editor")
    try:
        await _converse(server, StdinAsyncReader(streams.read, executor))
    finally:
        executor.shutdown(wait=False)
    return protocol.exit_code


async def serve_tcp(server: "FlexServer", host: str, port: int) -> int:
    """Serve the first editor that connects, then end. Gives the process's exit code.

    Raises:
        ConfigError: The address is not one of this machine's own, or is taken.
    """
    if host not in LOOPBACK:
        raise ConfigError(
            f"--tcp {host}:{port} can be reached from other machines, and the protocol knows no "
            "password: use 127.0.0.1"
        )
    done: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if server.protocol.writer is not None:
            writer.close()
            return
        server.protocol.set_writer(writer)
        try:
            await _converse(server, YieldingReader(reader))
        finally:
            writer.close()
            done.set_result(server.protocol.exit_code)

    try:
        listener = await asyncio.start_server(connected, host, port)
    except OSError as error:
        raise ConfigError(f"--tcp {host}:{port} cannot be listened at: {error}") from error
    taken = listener.sockets[0].getsockname()[1]
    print(f"flex-assist lsp listens at {host}:{taken} for one editor", file=sys.stderr, flush=True)
    async with listener:
        return await done


async def _converse(server: "FlexServer", reader: StdinAsyncReader | YieldingReader) -> None:
    try:
        await run_async(
            stop_event=server.protocol.stopped,
            reader=reader,
            protocol=server.protocol,
            logger=logger,
            error_handler=lambda error, _source: server.protocol.refuse_text(error),
        )
    except (BrokenPipeError, ConnectionResetError, asyncio.IncompleteReadError):
        logger.info("the editor has gone")
    finally:
        await server.session.close()
