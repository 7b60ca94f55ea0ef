"""``flex-assist bench train``: throughput and peak memory against TRL and PEFT, in one run."""

import importlib.util
import json
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from flex_assist.cli.output import say
from flex_assist.config import Settings
from flex_assist.engine.local import LocalEngine
from flex_assist.errors import ConfigError, DataError, MissingExtraError
from flex_assist.models import store
from flex_assist.repository.snapshot import read_documents
from flex_trainer import device
from flex_trainer.bench.arm import (
    DEFAULT,
    UPDATE_DOCUMENTS,
    Arm,
    Cell,
    Measurement,
    best,
    measure,
    middle,
    ratios,
    try_out,
)
from flex_trainer.bench.documents import load_average, pieces
from flex_trainer.recipe import Recipe
from flex_trainer.vocabulary import Vocabulary

# The grid needs less than the comparison itself.
GRID_SHARE = 3
LEAST_UPDATES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainBench:
    """What is compared.

    Attributes:
        documents: Rounded down to whole updates.
        length: Most tokens of a document.
        micro_batches: Of the peer's grid.
        checkpointing: Of the peer's grid.
        waiting: Of the peer's grid.
    """

    root: Path
    documents: int
    length: int
    repeats: int
    micro_batches: tuple[int, ...]
    checkpointing: tuple[bool, ...]
    waiting: tuple[str, ...]


def compare(options: TrainBench, settings: Settings) -> dict[str, Any]:
    """Measure both sides.

    Raises:
        MissingExtraError: TRL is not installed.
        DataError: The repository has too little code.
        ArmError: A side cannot be measured.
    """
    if importlib.util.find_spec("trl") is None:
        raise MissingExtraError("the comparison with TRL", "peers")
    check_micro_batches(options.micro_batches)
    base, load = store.find(settings.model.base), load_average()
    documents = _documents(options, settings, base.path)
    place = device.choose_device()
    dtype = device.dtype_name(device.choose_dtype(place))
    with tempfile.TemporaryDirectory(prefix="flex-assist-bench-") as folder:
        file = Path(folder) / "documents.json"
        file.write_text(json.dumps(documents))
        ours = Arm(
            side="ours",
            base=str(base.path.absolute()),
            documents=str(file),
            count=len(documents),
            length=options.length,
            dtype=dtype,
            device=place.type,
            # Its own choice, as in `adapt`.
            waiting=DEFAULT,
        )
        grid = _explore(options, replace(ours, side="peer", count=_fewer(len(documents))))
        chosen = replace(best(grid).arm, count=len(documents))
        arms = (ours, chosen, replace(chosen, packing=True))
        rounds = [[_measured(arm) for arm in arms] for _ in range(options.repeats)]
    sides = list(zip(*rounds, strict=True))
    return {
        **_summary(sides, arms),
        "grid": [cell.record() for cell in grid],
        "documents": len(documents),
        "tokens": sum(map(len, documents)),
        "length": options.length,
        "update_documents": UPDATE_DOCUMENTS,
        "base_model": base.name,
        "dtype": dtype,
        "device": place.type,
        "memory_of": "the GPU" if place.type == "cuda" else "the process",
        "load_average": load,
    }


def check_micro_batches(sizes: Iterable[int]) -> None:
    """Raise ConfigError for one that does not divide an update."""
    for size in sizes:
        if size < 1 or UPDATE_DOCUMENTS % size:
            raise ConfigError(
                f"--micro-batch {size!r} does not divide an update of {UPDATE_DOCUMENTS} "
                "documents; give 1, 2, 4 or 8"
            )


def whole_updates(found: Sequence[tuple[int, ...]], wanted: int) -> list[tuple[int, ...]]:
    """As many documents as are wanted and there, in whole updates.

    Raises:
        DataError: There are too few for an update after the warm-up.
    """
    count = min(wanted, len(found)) // UPDATE_DOCUMENTS * UPDATE_DOCUMENTS
    least = LEAST_UPDATES * UPDATE_DOCUMENTS
    if count < least:
        raise DataError(
            f"there are {min(wanted, len(found))} documents and {least} are needed; "
            "give a repository with more code, or more --documents"
        )
    return list(found[:count])


def _documents(options: TrainBench, settings: Settings, base: Path) -> list[tuple[int, ...]]:
    texts = [one.text for one in read_documents(options.root, settings.mining)]
    if not texts:
        raise DataError(
            f"{str(options.root)!r} has no source code in a supported language; "
            "`flex-assist adapt --dry-run` shows why"
        )
    encode = Vocabulary(LocalEngine(settings.engine), base).encode
    return whole_updates(pieces(texts, encode, options.length), options.documents)


def _fewer(count: int) -> int:
    least = LEAST_UPDATES * UPDATE_DOCUMENTS
    return max(least, count // GRID_SHARE // UPDATE_DOCUMENTS * UPDATE_DOCUMENTS)


def _explore(options: TrainBench, start: Arm) -> list[Cell]:
    """The peer's grid: first which precision of the adapter is faster and how threads should wait,
    then the rest with these.
    """
    first = replace(
        start,
        micro_batch=options.micro_batches[0],
        checkpointing=options.checkpointing[0],
        waiting=options.waiting[0],
    )
    dtypes = sorted({"float32", start.dtype})
    cells = [_tried(replace(first, adapter_dtype=dtype)) for dtype in dtypes]
    faster = best(cells).arm
    cells += [_tried(replace(faster, waiting=waiting)) for waiting in options.waiting[1:]]
    faster = best(cells).arm
    arms = [
        replace(faster, micro_batch=size, checkpointing=twice)
        for size in options.micro_batches
        for twice in options.checkpointing
    ]
    return cells + [_tried(arm) for arm in arms if arm not in [cell.arm for cell in cells]]


def _tried(arm: Arm) -> Cell:
    cell = try_out(arm)
    say(_line(arm, cell.found) if cell.found else str(cell.error))
    return cell


def _measured(arm: Arm) -> Measurement:
    found = measure(arm)
    say(_line(arm, found))
    return found


def _line(arm: Arm, found: Measurement) -> str:
    return f"{arm.describe()}: {found.tokens_per_s:.0f} tokens/s, {found.peak_memory_mb:.0f} MB"


def _summary(sides: Sequence[Sequence[Measurement]], arms: Sequence[Arm]) -> dict[str, Any]:
    ours, peer, packed = (middle(runs) for runs in sides)
    recipe = Recipe()
    records = [
        {**asdict(found), "runs_tokens_per_s": [run.tokens_per_s for run in runs]}
        for found, runs in zip((ours, peer, packed), sides, strict=True)
    ]
    return {
        "ours": {
            **records[0],
            "optimizer": recipe.optimizer,
            "hessian_every": recipe.hessian_every,
            "regularizer": recipe.regularizer,
        },
        "peer": {**records[1], **arms[1].choices()},
        "peer_packed": {**records[2], **arms[2].choices()},
        "ratio": ratios(ours, peer, packed),
        "repeats": len(sides[0]),
    }
