"""``flex-assist models``: base models."""

import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flex_assist.cli.output import JSON_HELP, print_json, print_table, printable, say
from flex_assist.errors import ConfigError, FlexAssistError
from flex_assist.locations import Locations, locate
from flex_assist.models import installed
from flex_assist.models.catalogue import CatalogueEntry, catalogue
from flex_assist.models.shape import ModelShape
from flex_assist.models.store import find, name_of

if TYPE_CHECKING:
    from flex_assist.models.inspection import Inspected

app = typer.Typer(no_args_is_help=True, help="Base models.")
AS_JSON = Annotated[bool, typer.Option("--json", help=JSON_HELP)]
NAME = Annotated[str, typer.Argument(help="name of the model")]


@app.callback()
def _group() -> None:
    """Base models."""


@app.command("list")
def list_models(as_json: AS_JSON = False) -> None:
    """List the base models that are known by name: which are here, and what the others take."""
    locations = locate()
    names = [*catalogue(), *(n for n in installed.names(locations) if n not in catalogue())]
    records = [_described(name, locations) for name in names]
    if as_json:
        print_json({"models": records})
        return
    headings = ("name", "licence", "file", "serving", "training", "status")
    sizes = ("download_bytes", "serving_bytes", "training_bytes")
    rows = [
        (one["name"], one["licence"] or "unknown", *(_size(one[key]) for key in sizes),
         one["status"])
        for one in records
    ]  # fmt: skip
    print_table(headings, rows)


@app.command("show")
def show(name: NAME, as_json: AS_JSON = False) -> None:
    """Show what is known of a model."""
    locations = locate()
    if name not in catalogue() and name not in installed.names(locations):
        known = ", ".join(sorted({*catalogue(), *installed.names(locations)}))
        raise ConfigError(f"unknown model {name!r}; there are: {known}")
    described = _described(name, locations)
    if as_json:
        print_json(described)
        return
    for key, value in described.items():
        told = _size(value) if key.endswith("_bytes") else value
        text = ", ".join(told) if isinstance(told, tuple) else told
        print(printable(f"  {key.removesuffix('_bytes').replace('_', ' '):<16} {text or '-'}"))


@app.command("pull")
def pull(
    name: NAME,
    revision: Annotated[
        str | None, typer.Option(help="branch, tag or commit; default: the newest")
    ] = None,
    endpoint: Annotated[
        str | None, typer.Option(help="address of a mirror; default: HF_ENDPOINT, or the hub")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask")] = False,
    as_json: AS_JSON = False,
) -> None:
    """Fetch a model of the catalogue. The only command that uses the network."""
    from flex_assist.models.pull import LARGE_BYTES, fetch, look_up

    locations = locate()
    if name not in catalogue():
        known = ", ".join(one.name for one in catalogue().values() if one.repository)
        raise ConfigError(f"unknown model {name!r}; these can be fetched: {known}")
    offer = look_up(catalogue()[name], locations, revision=revision, endpoint=endpoint)
    here = installed.read(name, locations)
    if here is None or here.sha256 != offer.sha256 or not here.path.is_file():
        rest = offer.size_bytes - offer.done_bytes
        say(f"{offer.entry.label}, licence: {offer.entry.licence}")
        say(f"{offer.repository} {offer.commit[:12]} {offer.file}: {_size(rest)} to fetch")
        if rest > LARGE_BYTES and not yes:
            _ask(name)
        here = fetch(offer, locations, _Bar())
    if as_json:
        print_json(asdict(here))
    else:
        print(f"{name} is here; use it with model.base = {name!r} or --base {name}")


@app.command("add")
def add(
    path: Annotated[
        Path,
        typer.Argument(help="a GGUF file, which stays where it is, or a Hugging Face folder"),
    ],
    name: Annotated[str | None, typer.Option(help="default: the name of the file")] = None,
    as_json: AS_JSON = False,
) -> None:
    """Make a model of yours known by a name. A folder is converted to a GGUF file."""
    locations = locate()
    chosen = name or name_of(path.name).lower()
    if chosen in catalogue():
        raise ConfigError(f"{chosen!r} is a name of the catalogue; give another --name")
    if path.is_dir():
        model = installed.add_folder(path, chosen, locations, _encoder)
    else:
        model = installed.add_file(path, chosen, locations)
    if as_json:
        print_json(asdict(model))
    else:
        family = printable(model.architecture)
        print(f"{model.name} ({family}, {_size(model.size_bytes)}) is known now")


@app.command("remove")
def remove(name: NAME, as_json: AS_JSON = False) -> None:
    """Forget a model, and delete its file if it was fetched by `models pull`."""
    freed = installed.remove(name, locate())
    if as_json:
        print_json({"name": name, "freed_bytes": freed})
    else:
        print(f"{name} is forgotten, {_size(freed)} freed")


def _encoder(path: Path) -> Callable[[str], list[int]]:
    from flex_assist.engine.llama import Model

    return Model.load(path, vocab_only=True).tokenize


def _described(name: str, locations: Locations) -> dict[str, Any]:
    entry = catalogue().get(name)
    model, path = None, None
    try:
        model = installed.read(name, locations)
        if model is None and entry and entry.repository:
            status = "not fetched"
        else:
            path, status = str(find(name, locations).path), "installed"
    except FlexAssistError as error:
        status = str(error)
    # Of one's own file only it can tell.
    known = entry or (_inspected(path) if path else None)
    return {
        "name": name,
        "label": entry.label if entry else name,
        "licence": entry.licence if entry else (model and model.licence),
        "architecture": entry.architecture if entry else (model and model.architecture),
        "path": path,
        "status": status,
        "source": model.source if model else _source(entry),
        "sha256": model.sha256 if model else None,
        **_sizes(known.shape if known else None, model),
        "fim": known.fim if known else None,
        "chat": known.chat if known else None,
        "training_weights": "the GGUF file, dequantized",
    }


def _source(entry: CatalogueEntry | None) -> str | None:
    if entry is None:
        return None
    return entry.repository or f"the package {entry.package}"


def _inspected(path: str) -> "Inspected | None":
    from flex_assist.models.inspection import inspect

    try:
        return inspect(Path(path))
    except FlexAssistError:
        # What is wrong with it is said when it is used.
        return None


def _sizes(
    shape: ModelShape | None, model: installed.InstalledModel | None
) -> dict[str, int | None]:
    """Bytes of the file, and of memory to serve and to train."""
    if shape is None:
        size = model.size_bytes if model else None
        return {"download_bytes": size, "serving_bytes": None, "training_bytes": None}
    return {
        "download_bytes": model.size_bytes if model else shape.download_bytes(),
        "serving_bytes": shape.serving_bytes(),
        "training_bytes": shape.training_bytes(),
    }


def _ask(name: str) -> None:
    if not sys.stdin.isatty():
        raise ConfigError(f"there is no terminal to ask in; say --yes to fetch {name!r}")
    if not typer.confirm("Fetch it?", err=True):
        raise typer.Exit(1)


def _size(size_bytes: int | None) -> str:
    if size_bytes is None:
        return "unknown"
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.0f} MB"


class _Bar:
    """How far a download is: a line that is written over in a terminal, else one for each 10 %."""

    def __init__(self) -> None:
        self._told = -1

    def __call__(self, done: int, total: int) -> None:
        step = 1 if sys.stderr.isatty() else 10
        percent = 100 * done // max(total, 1) // step * step
        if percent > self._told:
            self._told = percent
            end = "\r" if sys.stderr.isatty() and percent < 100 else "\n"
            print(f"{percent:3d} % of {_size(total)}", end=end, file=sys.stderr, flush=True)
