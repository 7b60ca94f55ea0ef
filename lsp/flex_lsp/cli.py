"""``flex-assist lsp``: the process around the server."""

import logging
import sys
from typing import Annotated

import typer

from flex_assist.errors import ConfigError
from flex_lsp.greeting import greet
from flex_lsp.streams import claim_standard_streams

DEFAULT_HOST = "127.0.0.1"


def command(
    stdio: Annotated[
        bool, typer.Option("--stdio", help="Speak over standard input and output (the default).")
    ] = True,
    tcp: Annotated[
        str | None,
        typer.Option(
            help="Listen for one editor at [HOST:]PORT of this machine instead.",
            metavar="[HOST:]PORT",
        ),
    ] = None,
    debug: Annotated[
        bool,
        typer.Option("--debug", help="Log all messages, your code in them, to standard error."),
    ] = False,
) -> None:
    """Start the language server, as editors do."""
    sys.exit(run(tcp=tcp, debug=debug))


def run(*, tcp: str | None = None, debug: bool = False) -> int:
    """Serve one editor until it leaves. Gives the exit code.

    Raises:
        ConfigError: ``tcp`` is no address of this machine.
    """
    address = address_of(tcp) if tcp is not None else None
    streams = claim_standard_streams() if address is None else None
    # Whatever is logged goes to standard error. pygls logs the editor's messages at INFO.
    logging.basicConfig(stream=sys.stderr, level=logging.DEBUG if debug else logging.WARNING)
    if not debug:
        logging.getLogger("pygls").setLevel(logging.CRITICAL)

    first = greet(streams) if streams is not None else None

    # Imported after the editor has its answer: this takes longer than all before.
    import asyncio

    from flex_assist.locations import locate
    from flex_lsp import transport
    from flex_lsp.server import FlexServer
    from flex_lsp.services import EngineBackend

    async def serve() -> int:
        locations = locate()
        server = FlexServer(locations, EngineBackend(locations))
        if streams is not None and first is not None:
            return await transport.serve_streams(server, streams, first)
        assert address is not None
        return await transport.serve_tcp(server, *address)

    try:
        return asyncio.run(serve())
    except KeyboardInterrupt:
        return 130


def address_of(text: str) -> tuple[str, int]:
    """Host and port of ``[HOST:]PORT``.

    Raises:
        ConfigError: It is not of that form.
    """
    host, _, port = text.rpartition(":")
    host = host.strip("[]") or DEFAULT_HOST
    if not port.isascii() or not port.isdecimal() or not 0 <= int(port) <= 65535:
        raise ConfigError(f"--tcp {text!r}: must be [HOST:]PORT, for example 127.0.0.1:2087")
    return host, int(port)
