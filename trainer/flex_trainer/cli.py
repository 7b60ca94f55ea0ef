"""``flex-assist adapt``. Light to import: torch comes when the command runs."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flex_assist import config
from flex_assist.cli.output import JSON_HELP, print_json, print_table, say
from flex_assist.config import Settings
from flex_assist.errors import ConfigError, DataError, ExportError
from flex_assist.locations import locate, repository_id
from flex_trainer import startup
from flex_trainer.budget import parse_seconds

if TYPE_CHECKING:
    from flex_trainer import events

EXIT_NOTHING_PROMOTED, EXIT_INTERRUPTED = 3, 130


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What was asked for on the command line, but for the settings; see ``AdaptOptions``."""

    root: Path
    languages: tuple[str, ...] | None
    train_files: tuple[str, ...] | None
    resume: bool
    from_active: bool


def command(
    repo: Annotated[Path, typer.Argument(help="the repository")] = Path(),
    language: Annotated[
        list[str] | None, typer.Option(help="only this language; may be given several times")
    ] = None,
    budget: Annotated[
        str | None, typer.Option(help="time for the whole command, e.g. 90s, 8m, 1h")
    ] = None,
    base: Annotated[str | None, typer.Option(help="base model: a name, or a GGUF file")] = None,
    optimizer: Annotated[str | None, typer.Option(help="sophia or adamw")] = None,
    regularizer: Annotated[
        str | None,
        typer.Option(help="spectral, paper, activation, or none; controls: l2, permuted"),
    ] = None,
    train_files: Annotated[
        Path | None, typer.Option(help="file with a list of paths: learn from exactly these")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="seed of everything drawn", min=0)] = None,
    steps: Annotated[
        int | None, typer.Option(help="steps of each adapter, whatever the budget", min=1)
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on with a stopped run")] = False,
    from_active: Annotated[
        bool,
        typer.Option("--from-active", help="begin with the weights of the active versions"),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="only show what would be learnt from")
    ] = False,
    progress: Annotated[
        str | None, typer.Option(help="json: one event a line on standard error")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help=JSON_HELP)] = False,
) -> None:
    """Adapt the base model to a repository: one adapter per language."""
    if progress not in (None, "json"):
        raise ConfigError(f"--progress {progress!r} is unknown; only json can be given")
    root = startup.repository_root(repo)
    flags = {
        "training.budget": budget,
        "model.base": base,
        "training.optimizer": optimizer,
        "training.regularizer": regularizer,
        "training.seed": seed,
        "training.steps": steps,
    }
    wishes = (language, train_files, from_active, any(v is not None for v in flags.values()))
    if resume and any(wishes):
        raise ConfigError("--resume goes on with what was asked for; leave the other options out")
    settings = config.load(locate(), root, flags)
    languages = tuple(language) if language else None
    files = _listed(train_files) if train_files else None
    wanted = Wanted(
        root=root, languages=languages, train_files=files, resume=resume, from_active=from_active
    )
    act = _show_plan if dry_run else _adapt
    act(wanted, settings, progress == "json", as_json)


def _listed(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{str(path)!r} cannot be read: {error}") from error
    return tuple(line for line in lines if line.strip())


def _adapt(wanted: Wanted, settings: Settings, json_events: bool, as_json: bool) -> None:
    budget_s = parse_seconds(settings.training.budget)
    with startup.training_extra():
        startup.prepare_process()
        from flex_trainer import events, plan
        from flex_trainer.adapt import AdaptOptions, adapt
        from flex_trainer.stage import Interrupted
    options = AdaptOptions(budget_s=budget_s, **asdict(wanted))
    live = sys.stderr.isatty() and not as_json
    try:
        with (
            _display(json_events, live, events.notes_only) as listen,
            _stop_on_interrupt() as stop,
        ):
            heard = _while_heard(listen, stop) if json_events else listen
            result = adapt(options, settings, locate(), heard, stop.is_set)
    except Interrupted as error:
        say(f"flex-assist: {error}")
        raise typer.Exit(EXIT_INTERRUPTED) from error
    except (ExportError, OSError) as error:
        if (locate().training(repository_id(wanted.root)) / plan.FILE_NAME).exists():
            error.add_note("what was done is kept: go on with `flex-assist adapt --resume`")
        raise
    if os.environ.get("RANK", "0") != "0":
        # One of several processes: the first one speaks for all.
        pass
    elif as_json:
        print_json(asdict(result))
    else:
        _show(result.languages)
        say(_comparison(result.plan, result.seconds))
    raise typer.Exit(0 if result.promoted else EXIT_NOTHING_PROMOTED)


@contextlib.contextmanager
def _stop_on_interrupt() -> Iterator[threading.Event]:
    """The first Ctrl-C asks the run to stop after its step; the second breaks off at once."""
    stop = threading.Event()

    def ask(number: int, frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        say("stopping after this step; press again to break off")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _while_heard(listen: "events.Listener", stop: threading.Event) -> "events.Listener":
    """Asks the run to stop, with a checkpoint, when whoever read its progress has gone.

    So a run that another program has started does not go on when that program was killed.
    """

    def tell(event: "events.Event") -> None:
        try:
            listen(event)
        except BrokenPipeError:
            # Nothing that is written later may fail a second time.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
            stop.set()

    return tell


def _show(languages: dict[str, dict[str, object]]) -> None:
    rows = [
        (name, found["files"], found["verdict"], found["reason"])
        for name, found in languages.items()
    ]
    print_table(("language", "files", "verdict", "reason"), rows)


def _comparison(plan: dict[str, Any], seconds: float) -> str:
    expected, measured = plan["predicted"], plan["measured"]
    return (
        f"{seconds:.0f} s, {measured['memory_mb']:.0f} MB "
        f"(planned: {expected['total_s']:.0f} s, {expected['memory_mb']:.0f} MB)"
    )


def _display(
    json_events: bool, live: bool, otherwise: "events.Listener"
) -> "contextlib.AbstractContextManager[events.Listener]":
    """Who is told what goes on.

    Args:
        live: There is a terminal to draw in.
    """
    from flex_trainer import events

    if json_events:
        return contextlib.nullcontext(events.json_lines)
    return events.Display() if live else contextlib.nullcontext(otherwise)


def _show_plan(wanted: Wanted, settings: Settings, json_events: bool, as_json: bool) -> None:
    from flex_assist.adapters import left_out
    from flex_assist.repository.snapshot import take_snapshot
    from flex_trainer import dry_run, events

    with _display(json_events, sys.stderr.isatty(), events.Lines().show) as listen:
        snapshot = take_snapshot(
            wanted.root,
            settings.mining,
            seed=settings.training.seed,
            languages=wanted.languages,
            train_files=wanted.train_files,
            forgotten=left_out.of(wanted.root, locate()),
            progress=lambda done, total: listen(events.Event(phase="mine", step=done, steps=total)),
            keep_text=False,
        )
    dry_run.show(snapshot, as_json=as_json)
