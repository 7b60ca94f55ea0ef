"""The commands ``bench train`` and ``bench optimizers``. Light: torch comes when one runs."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from flex_assist import config
from flex_assist.cli.output import JSON_HELP, print_json, print_table, say
from flex_assist.config import Settings
from flex_assist.errors import ConfigError
from flex_assist.locations import locate
from flex_trainer import startup
from flex_trainer.bench.documents import root_of

REPO_HELP = "repository to train on; without it, the sources of flex-assist itself"
CHECKPOINTING = {"both": (False, True), "off": (False,), "on": (True,)}
WAITING = {"both": ("passive", "default"), "passive": ("passive",), "default": ("default",)}
REGULARIZERS = ("spectral", "none", "l2", "permuted", "paper")

Choice = TypeVar("Choice")


def train(
    repo: Annotated[Path | None, typer.Argument(help=REPO_HELP)] = None,
    documents: Annotated[
        int, typer.Option(help="documents to train on, 8 an update; the first update warms up")
    ] = 88,
    length: Annotated[int, typer.Option(help="most tokens of a document", min=32, max=8192)] = 512,
    repeats: Annotated[
        int, typer.Option(help="medians over so many rounds of both sides in turn", min=1)
    ] = 1,
    micro_batch: Annotated[
        list[int] | None,
        typer.Option(help="documents that TRL computes at once; may be given several times"),
    ] = None,
    checkpointing: Annotated[
        str, typer.Option(help="gradient checkpointing of TRL: both, on or off")
    ] = "both",
    waiting: Annotated[
        str, typer.Option(help="how TRL's threads wait for each other: both, passive or default")
    ] = "both",
    base: Annotated[str | None, typer.Option(help="base model: a name, or a GGUF file")] = None,
    as_json: Annotated[bool, typer.Option("--json", help=JSON_HELP)] = False,
) -> None:
    """Speed and memory of training, against TRL and PEFT (extra: peers) at their best of a grid.

    About 40 minutes with all of the grid and three repeats.
    """
    twice = _one_of("--checkpointing", checkpointing, CHECKPOINTING)
    wait = _one_of("--waiting", waiting, WAITING)
    root = root_of(repo)
    settings = _settings(repo, base)
    with startup.training_extra():
        from flex_trainer.bench.train import TrainBench, compare
    options = TrainBench(
        root=root,
        documents=documents,
        length=length,
        repeats=repeats,
        micro_batches=tuple(micro_batch or (1, 2, 8)),
        checkpointing=twice,
        waiting=wait,
    )
    with startup.terminated_as_interrupted():
        found = compare(options, settings)
    if as_json:
        print_json(found)
    else:
        _show_train(found)


def optimizers(
    repo: Annotated[Path | None, typer.Argument(help=REPO_HELP)] = None,
    seconds: Annotated[float, typer.Option(help="training time of each run", min=1)] = 60.0,
    seeds: Annotated[int, typer.Option(help="runs of each at its best rate", min=1)] = 3,
    rates: Annotated[int, typer.Option(help="learning rates that each is tried at", min=1)] = 3,
    regularizer: Annotated[
        str, typer.Option(help="penalty of both: spectral or none; controls: l2, permuted, paper")
    ] = "spectral",
    batch_tokens: Annotated[
        int, typer.Option(help="tokens of a step; 0 takes the recipe's", min=0)
    ] = 0,
    overhead_steps: Annotated[int, typer.Option(help="steps timed for the overheads", min=1)] = 24,
    svg: Annotated[Path | None, typer.Option(help="draw the curves into this file")] = None,
    base: Annotated[str | None, typer.Option(help="base model: a name, or a GGUF file")] = None,
    as_json: Annotated[bool, typer.Option("--json", help=JSON_HELP)] = False,
) -> None:
    """Sophia against AdamW at equal time, both tuned: held-out bits per byte.

    About 20 minutes as it comes.
    """
    _one_of("--regularizer", regularizer, dict.fromkeys(REGULARIZERS))
    if svg is not None:
        _check_writable(svg)
    root = root_of(repo)
    settings = _settings(repo, base)
    with startup.training_extra():
        startup.prepare_process()
        from flex_trainer.bench.optimizers import OptimizerBench, compare
    options = OptimizerBench(
        root=root,
        seconds=seconds,
        seeds=seeds,
        rates=rates,
        regularizer=regularizer,
        batch_tokens=batch_tokens,
        overhead_steps=overhead_steps,
    )
    with startup.terminated_as_interrupted():
        found = compare(options, settings)
    if as_json:
        print_json(found)
    else:
        _show_optimizers(found)
    if svg is not None:
        from flex_trainer.bench.curves import draw

        svg.write_text(draw(found["arms"], found["verdict"]), encoding="utf-8")
        say(f"curves: {svg}")


def _one_of(option: str, value: str, known: Mapping[str, Choice]) -> Choice:
    if value not in known:
        raise ConfigError(f"{option} {value!r} is unknown; give one of {', '.join(known)}")
    return known[value]


def _settings(repo: Path | None, base: str | None) -> Settings:
    return config.load(locate(), repo, {"model.base": base})


def _check_writable(path: Path) -> None:
    """Raise ConfigError now rather than after the work."""
    folder = path.absolute().parent
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ConfigError(
            f"--svg {str(path)!r} cannot be written: give a file in a folder of yours"
        )
    if path.exists() and not os.access(path, os.W_OK):
        raise ConfigError(f"--svg {str(path)!r} cannot be written: change its permissions")


def _show_train(found: dict[str, Any]) -> None:
    rows = [
        (name, f"{one['tokens_per_s']:.0f}", f"{one['peak_memory_mb']:.0f}", _how(one))
        for name, one in (
            ("flex-assist", found["ours"]),
            ("TRL + PEFT", found["peer"]),
            ("TRL + PEFT, packed", found["peer_packed"]),
        )
    ]
    print_table(("", "tokens/s", "peak MB", "how"), rows)
    ratio = found["ratio"]
    print(
        f"flex-assist trains {ratio['tokens_per_s']:.2f} times as fast as TRL's best "
        f"({ratio['tokens_per_s_packed']:.2f} times with its packing) "
        f"in {ratio['peak_memory']:.2f} of its memory"
    )


def _how(one: dict[str, Any]) -> str:
    if "micro_batch" not in one:
        return f"{one['optimizer']}, penalty {one['regularizer']}"
    twice = "on" if one["checkpointing"] else "off"
    return f"micro-batch {one['micro_batch']}, checkpointing {twice}, {one['adapter_dtype']}"


def _show_optimizers(found: dict[str, Any]) -> None:
    rows = [
        (
            one["optimizer"],
            f"{one['lr']:.2g}",
            one["seed"],
            one["steps"],
            f"{one['seconds']:.1f}",
            f"{one['held_out_bits_per_byte']:.4f}",
        )
        for one in found["arms"]
    ]
    print_table(("optimizer", "rate", "seed", "steps", "seconds", "bits per byte"), rows)
    overhead = found["overhead"]
    print(
        f"the Hessian costs {overhead['hessian']:.1%} of a step's time, "
        f"the spectral penalty {overhead['spectral']:.1%}"
    )
    print(found["verdict"])
