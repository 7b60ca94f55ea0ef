"""``flex-assist watch``. Light: training happens in processes of its own, and torch stays there."""

from pathlib import Path
from typing import Annotated

import typer

from flex_assist import config
from flex_assist.locations import locate
from flex_trainer import startup


def command(
    repo: Annotated[Path, typer.Argument(help="the repository")] = Path(),
    now: Annotated[bool, typer.Option("--now", help="adapt at once, whatever has changed")] = False,
    once: Annotated[
        bool, typer.Option("--once", help="look, adapt if enough has changed, and end")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="print one event a line, as JSON, to standard output")
    ] = False,
) -> None:
    """Watch a repository, and adapt again when enough has changed.

    It waits until the machine is idle and on mains power; see the settings of the section watch in
    `flex-assist config show`. Editors that run use a new version at their next completion.
    """
    root = startup.repository_root(repo)
    settings = config.load(locate(), root)
    with startup.training_extra():
        from flex_trainer.watch import WatchOptions, watch
        from flex_trainer.watch_telling import Teller
    options = WatchOptions(root=root, once=once, now=now)
    raise typer.Exit(watch(options, settings, locate(), Teller(as_json=as_json)))
