"""The command ``bench adapt``. Light: models are loaded when it runs."""

from pathlib import Path
from typing import Annotated, Any

import typer

from flex_assist import config
from flex_assist.cli.output import JSON_HELP, print_json, print_table
from flex_assist.locations import locate
from flex_trainer import startup
from flex_trainer.bench.documents import root_of
from flex_trainer.startup import repository_root

REPO_HELP = "repository to adapt to; without it, the sources of flex-assist itself"
OTHER_HELP = "the wrong repository; without it, packages of Python's standard library"


def adapt(
    repo: Annotated[Path | None, typer.Argument(help=REPO_HELP)] = None,
    other: Annotated[Path | None, typer.Option(help=OTHER_HELP)] = None,
    budget: Annotated[str, typer.Option(help="time for each of the two adapt runs")] = "2m",
    seed: Annotated[int, typer.Option(help="seed of everything drawn", min=0)] = 0,
    base: Annotated[str | None, typer.Option(help="base model: a name, or a GGUF file")] = None,
    as_json: Annotated[bool, typer.Option("--json", help=JSON_HELP)] = False,
) -> None:
    """Controls of adapt: a wrong repository's adapter gains less, a planted key stays unknown.

    On copies that are thrown away; takes two and a half times the budget.
    """
    root = root_of(repo)
    wrong = repository_root(other) if other is not None else None
    settings = config.load(locate(), repo, {"model.base": base})
    with startup.training_extra():
        from flex_trainer.bench.controls import ControlBench, compare
        from flex_trainer.budget import parse_seconds
    options = ControlBench(root=root, other=wrong, budget_s=parse_seconds(budget), seed=seed)
    with startup.terminated_as_interrupted():
        found = compare(options, settings)
    if as_json:
        print_json(found)
    else:
        _show(found)


def _show(found: dict[str, Any]) -> None:
    rows = []
    for name, one in found["languages"].items():
        bits = one["bits_per_byte"]
        rows += [
            (name, "base", f"{bits['base']:.3f}", ""),
            (name, "right adapter", f"{bits['right']:.3f}", _interval(one["right_ci95"])),
            (name, "wrong adapter", f"{bits['wrong']:.3f}", _interval(one["wrong_ci95"])),
        ]
    print_table(("language", "who", "bits per byte", "95 % interval of the difference"), rows)
    if found["canary"]:
        canary = found["canary"]
        print(f"planted key: z {canary['z']:+.2f}, rank {canary['rank']} of {canary['keys']}")
    print(found["verdict"])


def _interval(ends: tuple[float, float]) -> str:
    return f"[{ends[0]:+.3f}, {ends[1]:+.3f}]"
