"""The wires: standard input and output, or one TCP connection from this machine."""

import asyncio
import logging
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from pygls.io_ import StdinAsyncReader, StdoutWriter, run_async

from flex_assist.errors import ConfigError

if TYPE_CHECKING:
    from flex_lsp.server import FlexServer

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Streams:
    """The editor's two pipes."""

    read: BinaryIO
    write: BinaryIO


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


def claim_standard_streams() -> Streams:
    """Keep descriptors 0 and 1 for the protocol, out of reach of everything else.

    From now on descriptor 1 and ``sys.stdout`` lead to standard error, and descriptor 0 is empty: a
    stray print, a native library or a child process cannot disturb the editor.
    """
    sys.stdout.flush()
    read, write = os.dup(0), os.dup(1)
    os.dup2(2, 1)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    sys.stdout = sys.stderr
    return Streams(read=os.fdopen(read, "rb"), write=os.fdopen(write, "wb"))


async def serve_streams(server: "FlexServer", streams: Streams) -> int:
    """Serve until the editor exits or its pipe closes. Gives the process's exit code."""
    protocol = server.protocol
    protocol.set_writer(StdoutWriter(streams.write))
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
