"""``flex-assist chat``."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from flex_assist.config import load
from flex_assist.errors import ConfigError, MissingExtraError
from flex_assist.locations import locate


def command(
    repo: Annotated[Path, typer.Argument(help="The repository to talk about.")] = Path("."),
    adapter: Annotated[
        str, typer.Option(help="auto (by the attached file's language), none, or a name.")
    ] = "auto",
    resume: Annotated[bool, typer.Option(help="Continue the last conversation here.")] = False,
    model: Annotated[
        str | None, typer.Option(help="Base model: a catalogue name, or a GGUF file.")
    ] = None,
) -> None:
    """Chat about a repository in the terminal.

    Everything stays on this machine, unless your settings name a server for the repository.
    """
    import asyncio

    try:
        from flex_tui.app import run
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "textual":
            raise
        raise MissingExtraError("the terminal chat", "tui") from error
    root = repo.expanduser().resolve()
    if not root.is_dir():
        raise ConfigError(f"{str(repo)!r} is not a folder; give the root of a repository")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ConfigError("the chat needs a terminal; its input or output is redirected")
    locations = locate()
    settings = load(locations, repository=root, flags={"model.base": model})
    asyncio.run(run(root, settings, locations, adapter=adapter, resume=resume))
