"""``flex-assist adapters activate``, ``rollback`` and ``remove``."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flex_assist.cli.output import JSON_HELP, print_json, printable, say
from flex_assist.cli.registries import registry_of
from flex_assist.errors import ConfigError

if TYPE_CHECKING:
    from flex_assist.adapters.registry import AdapterVersion, Registry

Repo = Annotated[Path, typer.Option(help="the repository")]
AsJson = Annotated[bool, typer.Option("--json", help=JSON_HELP)]


def activate(
    version: Annotated[str, typer.Argument(metavar="NAME/VERSION", help="see `adapters list`")],
    repo: Repo = Path(),
    as_json: AsJson = False,
) -> None:
    """Let a version answer, whatever the gate said of it. Its files are checked first."""
    from flex_assist.adapters.registry import PROMOTED

    name, own = _split(version)
    registry = registry_of(repo)
    before = registry.active_version(name)
    found = registry.activate(name, own)
    if found.manifest.verdict != PROMOTED:
        say(f"note: it was not promoted: {found.manifest.reason}")
    _tell(found, before, as_json)


def rollback(
    name: Annotated[str, typer.Argument(help="an adapter's name")],
    repo: Repo = Path(),
    as_json: AsJson = False,
) -> None:
    """Let the newest promoted version before the active one answer again."""
    registry = registry_of(repo)
    before = registry.active_version(name)
    _tell(registry.roll_back(name), before, as_json)


def remove(
    version: Annotated[str, typer.Argument(metavar="NAME/VERSION|NAME")],
    every: Annotated[bool, typer.Option("--all", help="all versions of NAME")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
    repo: Repo = Path(),
    as_json: AsJson = False,
) -> None:
    """Delete a version, or all of a name; the base answers where the active one goes."""
    registry = registry_of(repo)
    name, versions = _wanted(registry, version, every)
    pointed = registry.active_version(name)
    active = pointed if pointed in versions else None
    if not yes:
        _ask(name, versions, active)
    for one in versions:
        registry.remove(name, one)
    if as_json:
        print_json({"name": name, "removed": versions, "deactivated": active})
        return
    for one in versions:
        print(printable(f"removed {name}/{one}"))
    if active:
        print(printable(f"no version of {name} is active any more"))


def _wanted(registry: "Registry", version: str, every: bool) -> tuple[str, list[str]]:
    """The name and the versions that are to go."""
    if not every:
        name, own = _split(version)
        if own not in registry.version_names(name):
            raise ConfigError(f"there is no version {version!r}; see `flex-assist adapters list`")
        return name, [own]
    found = registry.version_names(version)
    if not found:
        raise ConfigError(f"there is no adapter {version!r}; see `flex-assist adapters list`")
    return version, found


def _ask(name: str, versions: list[str], active: str | None) -> None:
    if not sys.stdin.isatty():
        raise ConfigError(f"{len(versions)} version(s) of {name!r} would be deleted; add --yes")
    also = f", the active one {active} among them" if active else ""
    question = f"Delete {len(versions)} version(s) of {name}{also}?"
    typer.confirm(printable(question), abort=True, err=True)


def _tell(found: "AdapterVersion", before: str | None, as_json: bool) -> None:
    manifest = found.manifest
    if as_json:
        record = {"name": manifest.name, "active": manifest.version, "before": before}
        print_json({**record, "verdict": manifest.verdict, "reason": manifest.reason})
        return
    was = f" (before: {before})" if before and before != manifest.version else ""
    print(printable(f"{manifest.name}: {manifest.version} answers now{was}"))
    print(printable(f"  {manifest.reason}"))


def _split(text: str) -> tuple[str, str]:
    name, slash, version = text.partition("/")
    if not slash or not name or not version:
        raise ConfigError(f"{text!r} is no NAME/VERSION; see `flex-assist adapters list`")
    return name, version
