"""The command ``flex-assist``: finds the commands, and is the boundary for errors.

Commands of the other packages come through the entry points ``flex_assist.commands``, and those of
the group ``bench`` through ``flex_assist.bench``. Their modules are light: what they need (torch,
pygls, textual) is imported when the command runs.
"""

import errno
import importlib.metadata
import io
import os
import sys
from collections.abc import Iterable
from typing import Annotated

import typer

from flex_assist import __version__
from flex_assist.cli import adapters, bench, complete, config, doctor, engine, models
from flex_assist.cli.output import say
from flex_assist.errors import ConfigError, FlexAssistError

GROUP, BENCH_GROUP = "flex_assist.commands", "flex_assist.bench"
ADAPTERS_GROUP = "flex_assist.adapters"
# What to do about a fault of the system, where one knows.
ADVICE = {
    errno.ENOSPC: "free some space, or set FLEX_ASSIST_HOME to a folder on another disk",
    errno.EDQUOT: "free some space, or set FLEX_ASSIST_HOME to a folder on another disk",
    errno.EACCES: "change its permissions, or set FLEX_ASSIST_HOME to a folder of your own",
    errno.EPERM: "change its permissions, or set FLEX_ASSIST_HOME to a folder of your own",
    errno.EROFS: "set FLEX_ASSIST_HOME to a folder that can be written",
}
EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"flex-assist {__version__}")
        raise typer.Exit


def _top(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="show the version"),
    ] = False,
) -> None:
    """A local, private coding assistant that adapts itself to one repository."""


def build() -> typer.Typer:
    """The whole command line."""
    app = typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_top)
    found = importlib.metadata.entry_points()
    _add(app, found.select(group=GROUP))
    app.command("complete")(complete.command)
    app.command("doctor")(doctor.command)
    _add(adapters.app, found.select(group=ADAPTERS_GROUP))
    app.add_typer(adapters.app, name="adapters")
    measures = bench.group()
    _add(measures, found.select(group=BENCH_GROUP))
    app.add_typer(measures, name="bench")
    app.add_typer(config.app, name="config")
    app.add_typer(engine.app, name="engine")
    app.add_typer(models.app, name="models")
    return app


def _add(app: typer.Typer, entries: Iterable[importlib.metadata.EntryPoint]) -> None:
    for entry in sorted(entries, key=lambda one: one.name):
        app.command(entry.name)(entry.load())


def main() -> None:
    """Run, and turn every error into one message and an exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # File names need not be Unicode; that must not end a listing.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        build()()
    except ConfigError as error:
        _fail(error, EXIT_USAGE)
    except FlexAssistError as error:
        _fail(error, EXIT_FAILED)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output has gone; its end must not fail a second time at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_FAILED)
    except OSError as error:
        _fail(error, EXIT_FAILED, _described(error))


def _described(error: OSError) -> str:
    what = f"{error.filename!r}: {error.strerror}" if error.filename else str(error)
    advice = ADVICE.get(error.errno or 0)
    return f"{what}; {advice}" if advice else what


def _fail(error: Exception, code: int, message: str = "") -> None:
    say(f"flex-assist: {message or error}")
    for note in getattr(error, "__notes__", ()):
        say(note)
    sys.exit(code)


if __name__ == "__main__":
    main()
