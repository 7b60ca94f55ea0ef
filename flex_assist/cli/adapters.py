"""``flex-assist adapters``: what a repository's adapters are."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flex_assist.cli import adapters_export, adapters_route, adapters_versions
from flex_assist.cli.output import JSON_HELP, print_json, print_table, printable, say
from flex_assist.cli.registries import registry_of
from flex_assist.complete.root import root_of
from flex_assist.errors import ConfigError, DataError
from flex_assist.locations import locate

if TYPE_CHECKING:
    from flex_assist.adapters.registry import AdapterVersion, Registry

app = typer.Typer(no_args_is_help=True, help="Adapters of a repository.")
Repo = Annotated[Path, typer.Option(help="the repository")]
AsJson = Annotated[bool, typer.Option("--json", help=JSON_HELP)]


@app.callback()
def _group() -> None:
    """Adapters of a repository."""


@app.command("list")
def list_adapters(repo: Repo = Path(), as_json: AsJson = False) -> None:
    """List all versions of all adapters; * marks the active ones."""
    registry = registry_of(repo)
    records = [
        _summary(registry, version)
        for name in registry.names()
        for version in registry.versions(name)
    ]
    if as_json:
        print_json({"repository": str(root_of(repo, locate())), "adapters": records})
        return
    if not records:
        print("no adapters here; run `flex-assist adapt`")
        return
    rows = [
        ("*" if r["active"] else "", r["name"], r["version"], r["verdict"], r["reason"])
        for r in records
    ]
    print_table(("", "name", "version", "verdict", "reason"), rows)


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="an adapter's name, a language, or name/version")],
    repo: Repo = Path(),
    report: Annotated[
        bool, typer.Option("--report", help="print only where the report for people is")
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="first compare all files with their digests")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what is known of an adapter: by default of its active version.

    A language without one of its own is explained.
    """
    from flex_assist.adapters import explain

    registry = registry_of(repo)
    own, _, version = name.partition("/")
    found = registry.get(own, version) if version else registry.active(own)
    explained = None if found or version else explain.without_own(registry, own)
    if found is None and explained is None:
        known = ", ".join(registry.names()) or "none; run `flex-assist adapt`"
        raise ConfigError(f"there is no active adapter {name!r}; adapters here: {known}")
    if explained is not None:
        found = explained.adapter
    if verify and found is not None:
        registry.checked(found.folder.parent.name, found.folder.name)
        say(f"verified: the {len(found.manifest.artefacts)} files are as they were written")
    if report:
        print(_report_of(name, found))
        return
    why = explained.why if explained else None
    if as_json:
        print_json(_record(own, why, found))
        return
    if why is not None:
        print(printable(why))
    if found is not None:
        _describe(found)


def _report_of(name: str, version: "AdapterVersion | None") -> Path:
    if version is None or version.report is None:
        raise DataError(f"there is no report of {name!r}; run `flex-assist adapt` again")
    return version.report


def _record(name: str, why: str | None, version: "AdapterVersion | None") -> dict[str, Any]:
    """What is known; of a language without an adapter of its own also why."""
    explained = {} if why is None else {"language": name, "why": why}
    if version is None:
        return explained
    report = str(version.report) if version.report else None
    return {
        **explained,
        "folder": str(version.folder),
        "report": report,
        **asdict(version.manifest),
    }


def _describe(version: "AdapterVersion") -> None:
    from flex_assist.adapters import explain

    manifest = version.manifest
    splits: dict[str, int] = {}
    for record in manifest.data:
        if record.get("language", manifest.languages[0]) not in manifest.languages:
            continue
        splits[record["verdict"]] = splits.get(record["verdict"], 0) + 1
    rows = [
        ("base", f"{manifest.base_model}  sha256 {manifest.base_sha256[:16]}…"),
        ("verdict", manifest.reason),
        ("files", ", ".join(f"{count} {side}" for side, count in sorted(splits.items()))),
        *(("pooled", f"{name}: {why}") for name, why in explain.pool(manifest).items()),
        *(("without", f"{name}: {why}") for name, why in explain.without(manifest).items()),
        ("folder", str(version.folder)),
        ("report", str(version.report) if version.report else "none"),
    ]
    print(printable(f"{manifest.name} {manifest.version}  ({', '.join(manifest.languages)})"))
    for label, text in rows:
        print(printable(f"  {label:<8} {text}"))


def _summary(registry: "Registry", version: "AdapterVersion") -> dict[str, Any]:
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


app.command("route")(adapters_route.route)
app.command("activate")(adapters_versions.activate)
app.command("rollback")(adapters_versions.rollback)
app.command("remove")(adapters_versions.remove)
app.command("export")(adapters_export.export_adapter)
app.command("import")(adapters_export.import_adapter)
