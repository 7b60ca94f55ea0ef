"""``flex-assist adapters export`` and ``import``."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flex_assist import config
from flex_assist.cli.output import JSON_HELP, print_json, printable, say
from flex_assist.cli.registries import registry_of
from flex_assist.complete.root import root_of
from flex_assist.errors import ConfigError
from flex_assist.locations import locate
from flex_assist.locks import exclusive
from flex_assist.models import store

if TYPE_CHECKING:
    from flex_assist.adapters.registry import AdapterVersion, Registry

Repo = Annotated[Path, typer.Option(help="the repository")]
AsJson = Annotated[bool, typer.Option("--json", help=JSON_HELP)]
Base = Annotated[str | None, typer.Option(help="the base model's name or GGUF file")]


def export_adapter(
    name: Annotated[str, typer.Argument(help="an adapter's name, or name/version")],
    target: Annotated[Path, typer.Argument(help="the folder to write to", metavar="OUT")],
    form: Annotated[str, typer.Option("--format", help="gguf, peft, ollama or vllm")] = "gguf",
    kind: Annotated[
        str,
        typer.Option("--type", help="of the merged file: F16, Q8_0, Q6_K, Q5_K_M, Q4_K_M, Q4_0"),
    ] = "Q8_0",
    repo: Repo = Path(),
    base: Base = None,
    force: Annotated[bool, typer.Option("--force", help="replace files that exist")] = False,
    as_json: AsJson = False,
) -> None:
    """Write an adapter for other programs: by default of its active version."""
    from flex_assist.adapters.exporting import Order, export

    registry = registry_of(repo)
    found = _found(registry, name)
    others = _others(registry, found) if form == "vllm" else ()
    order = Order(
        version=found,
        base=store.find(base or found.manifest.base_model).path,
        target=target,
        form=form,
        kind=kind,
        others=others,
        force=force,
    )
    with _bar(f"{found.manifest.name} as {kind}") as progress:
        made = export(order, progress)
    if as_json:
        print_json(
            {
                "adapter": f"{found.manifest.name}/{found.manifest.version}",
                "format": form,
                "files": [{"path": str(one), "bytes": one.stat().st_size} for one in made.files],
                "survival": made.survival,
                "note": made.note,
            }
        )
        return
    for path in made.files:
        print(printable(str(path)))
    say(made.note)


def import_adapter(
    source: Annotated[
        Path,
        typer.Argument(help="a folder that `export --format peft` wrote, or a LoRA GGUF file"),
    ],
    name: Annotated[
        str | None,
        typer.Option(help="of a GGUF file: the language that it is for, if it does not say so"),
    ] = None,
    repo: Repo = Path(),
    base: Base = None,
    as_json: AsJson = False,
) -> None:
    """Take in an adapter; `adapters activate` lets it answer."""
    from flex_assist.adapters import quota
    from flex_assist.adapters.manifest import LORA_GGUF, PEFT_WEIGHTS

    registry = registry_of(repo)
    root = root_of(repo, locate())
    settings = config.load(locate(), root)
    if not source.exists():
        raise ConfigError(f"there is no file or folder {str(source)!r}; check the path")
    say(f"checking {printable(str(source))}, and merging it with its base")
    # What `export --format gguf` wrote.
    alone = source / LORA_GGUF
    if source.is_dir() and alone.is_file() and not (source / PEFT_WEIGHTS).exists():
        source = alone
    with exclusive(registry.lock_file, what=f"the repository {str(root)!r}"):
        made = _taken_in(source, name, base, settings.model.base, registry)
    manifest = made.manifest
    for note in quota.tidy(
        registry, settings.storage.adapters_mb, (manifest.name, manifest.version)
    ):
        say(note)
    if as_json:
        print_json({"name": manifest.name, "version": manifest.version, "folder": str(made.folder)})
        return
    print(printable(f"{manifest.name}/{manifest.version}"))
    say(f"let it answer by `flex-assist adapters activate {manifest.name}/{manifest.version}`")


def _taken_in(
    source: Path, name: str | None, base: str | None, usual: str, registry: "Registry"
) -> "AdapterVersion":
    from flex_assist.adapters.importing import import_folder, import_gguf, told

    if source.is_dir():
        if name is not None:
            raise ConfigError("--name is for a GGUF file; a folder says its name itself")
        wanted = base or told(source).base_model
        return import_folder(source, store.find(wanted).path, registry)
    model = store.find(base or usual)
    return import_gguf(source, name, model.path, model.name, registry)


@contextlib.contextmanager
def _bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error, where that is a terminal, for as long as tensors are quantized."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True, disable=not _is_terminal()) as bars:
        task = bars.add_task(what, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


def _is_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


def _found(registry: "Registry", name: str) -> "AdapterVersion":
    own, _, version = name.partition("/")
    found = registry.get(own, version) if version else registry.active(own)
    if found is None:
        known = ", ".join(registry.names()) or "none; run `flex-assist adapt`"
        raise ConfigError(f"there is no active adapter {name!r}; adapters here: {known}")
    return found


def _others(registry: "Registry", found: "AdapterVersion") -> "tuple[AdapterVersion, ...]":
    """The active versions of the same base, as far as they have PEFT's files."""
    from flex_assist.adapters.manifest import PEFT_WEIGHTS

    others = []
    for name in registry.names():
        one = registry.active(name)
        if one is None or one.manifest.base_sha256 != found.manifest.base_sha256:
            continue
        if (one.folder / PEFT_WEIGHTS).is_file():
            others.append(one)
        elif name != found.manifest.name:
            say(f"note: {name} is left out: it was imported as GGUF, which vLLM cannot read")
    return tuple(others)
