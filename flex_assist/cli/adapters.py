"""``flex-assist adapters``: what a repository's adapters are."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from flex_assist.adapters.registry import AdapterVersion, Registry
from flex_assist.cli.output import JSON_HELP, print_json, print_table
from flex_assist.complete.root import find_root
from flex_assist.errors import ConfigError
from flex_assist.locations import locate

app = typer.Typer(no_args_is_help=True, help="Adapters of a repository.")
Repo = Annotated[Path, typer.Option(help="the repository")]
AsJson = Annotated[bool, typer.Option("--json", help=JSON_HELP)]


@app.callback()
def _group() -> None:
    """Adapters of a repository."""


@app.command("list")
def list_adapters(repo: Repo = Path(), as_json: AsJson = False) -> None:
    """List all versions of all adapters; * marks the active ones."""
    registry = _registry(repo)
    records = [
        _summary(registry, version)
        for name in registry.names()
        for version in registry.versions(name)
    ]
    if as_json:
        print_json({"repository": str(_root(repo)), "adapters": records})
        return
    rows = [
        ("*" if r["active"] else "", r["name"], r["version"], r["verdict"], r["reason"])
        for r in records
    ]
    print_table(("", "name", "version", "verdict", "reason"), rows)


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="an adapter's name, or name/version")],
    repo: Repo = Path(),
    as_json: AsJson = False,
) -> None:
    """Show what is known of an adapter: by default of its active version."""
    registry = _registry(repo)
    own, _, version = name.partition("/")
    found = registry.get(own, version) if version else registry.active(own)
    if found is None:
        known = ", ".join(registry.names()) or "none; run `flex-assist adapt`"
        raise ConfigError(f"there is no active adapter {name!r}; adapters here: {known}")
    record = {"folder": str(found.folder), **asdict(found.manifest)}
    if as_json:
        print_json(record)
        return
    _describe(found)


def _describe(version: AdapterVersion) -> None:
    manifest = version.manifest
    splits: dict[str, int] = {}
    for record in manifest.data:
        splits[record["verdict"]] = splits.get(record["verdict"], 0) + 1
    print(f"{manifest.name} {manifest.version}  ({', '.join(manifest.languages)})")
    print(f"  base     {manifest.base_model}  sha256 {manifest.base_sha256[:16]}…")
    print(f"  verdict  {manifest.reason}")
    print(f"  files    {', '.join(f'{count} {side}' for side, count in sorted(splits.items()))}")
    print(f"  folder   {version.folder}")


def _summary(registry: Registry, version: AdapterVersion) -> dict[str, Any]:
    manifest = version.manifest
    active = registry.active(manifest.name)
    return {
        "name": manifest.name,
        "version": manifest.version,
        "active": active is not None and active.manifest.version == manifest.version,
        "languages": list(manifest.languages),
        "base_model": manifest.base_model,
        "verdict": manifest.verdict,
        "reason": manifest.reason,
        "bits_per_byte": manifest.metrics.get("bits_per_byte"),
    }


def _root(repo: Path) -> Path:
    if not repo.is_dir():
        raise ConfigError(f"{str(repo)!r} is not a folder")
    return find_root(repo, locate()) or repo


def _registry(repo: Path) -> Registry:
    return Registry(locate(), _root(repo))
