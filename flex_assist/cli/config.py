"""``flex-assist config``: settings."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from flex_assist import config
from flex_assist.cli.output import JSON_HELP, print_json
from flex_assist.complete.root import find_root
from flex_assist.locations import locate

app = typer.Typer(no_args_is_help=True, help="Settings.")
Repo = Annotated[Path, typer.Option(help="the repository whose settings count as well")]


@app.callback()
def _group() -> None:
    """Settings."""


@app.command("show")
def show(
    repo: Repo = Path(), as_json: Annotated[bool, typer.Option("--json", help=JSON_HELP)] = False
) -> None:
    """Show every setting, its value and what it means."""
    locations = locate()
    settings = config.load(locations, find_root(repo, locations))
    if as_json:
        print_json(config.as_dict(settings))
        return
    for section in dataclasses.fields(settings):
        print(f"[{section.name}]")
        values = getattr(settings, section.name)
        for field in dataclasses.fields(values):
            value = getattr(values, field.name)
            shown = list(value) if isinstance(value, tuple) else value
            text = str(shown).lower() if isinstance(shown, bool) else repr(shown)
            print(f"{field.name} = {text}".ljust(34) + f" # {field.metadata['help']}")
        print()


@app.command("path")
def path(
    as_json: Annotated[bool, typer.Option("--json", help=JSON_HELP)] = False,
) -> None:
    """Show where settings, adapters, models and logs are."""
    locations = locate()
    places = {
        "settings": locations.config_file,
        "adapters": locations.adapters,
        "models": locations.models,
        "conversations": locations.conversations,
        "cache": locations.cache,
        "engine log": locations.engine_log,
        "engine socket": locations.socket,
    }
    if as_json:
        print_json({name.replace(" ", "_"): str(place) for name, place in places.items()})
        return
    for name, place in places.items():
        print(f"{name:14} {place}")
