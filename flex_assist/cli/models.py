"""``flex-assist models``: base models."""

from typing import Annotated

import typer

from flex_assist.cli.output import JSON_HELP, print_json, print_table
from flex_assist.errors import FlexAssistError
from flex_assist.models.catalogue import catalogue, packaged_file

app = typer.Typer(no_args_is_help=True, help="Base models.")


@app.callback()
def _group() -> None:
    """Base models."""


@app.command("list")
def list_models(
    as_json: Annotated[bool, typer.Option("--json", help=JSON_HELP)] = False,
) -> None:
    """List the base models that are known by name, and where their files are."""
    records = []
    for entry in catalogue().values():
        try:
            path, note = str(packaged_file(entry)), "installed"
        except FlexAssistError as error:
            path, note = None, str(error)
        records.append(
            {
                "name": entry.name,
                "label": entry.label,
                "licence": entry.licence,
                "architecture": entry.architecture,
                "path": path,
                "status": note,
            }
        )
    if as_json:
        print_json({"models": records})
    else:
        rows = [(r["name"], r["label"], r["licence"], r["status"]) for r in records]
        print_table(("name", "model", "licence", "status"), rows)
