"""Checkpoints of a run: whole or not there, without pickle.

A checkpoint is one folder of safetensors and JSON that appears by a rename; the one before it is
removed only then. Everything else that a step needs (its batch, its random draws) follows from the
seed and the step's number.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor

from flex_assist.errors import DataError
from flex_assist.locations import private_directory

PREFIX = "step-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a run stands.

    Attributes:
        step: Steps done.
        tokens: Labelled tokens seen.
        seconds: Training time so far.
        strength: The regularizer's lambda.
    """

    step: int
    tokens: int
    seconds: float
    strength: float
    losses: tuple[float, ...] = ()


def save(folder: Path, progress: Progress, tensors: Mapping[str, Tensor]) -> Path:
    """Write a checkpoint and drop the older ones."""
    private_directory(folder)
    target = folder / f"{PREFIX}{progress.step:07d}"
    part = folder / f".{target.name}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(mode=0o700)
    write_tensors(part / "state.safetensors", tensors)
    (part / "progress.json").write_text(json.dumps(asdict(progress)))
    if target.exists():
        shutil.rmtree(target)
    part.rename(target)
    for older in _all(folder)[:-1]:
        shutil.rmtree(older, ignore_errors=True)
    return target


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write a safetensors file. By Python: a full disk is then an ``OSError`` like any other."""
    path.write_bytes(to_bytes(dict(tensors), metadata=metadata))


def latest(folder: Path) -> tuple[Progress, dict[str, Tensor]] | None:
    """The newest checkpoint, or None.

    Raises:
        DataError: It is damaged.
    """
    found = _all(folder)
    if not found:
        return None
    newest = found[-1]
    try:
        record = json.loads((newest / "progress.json").read_text())
        record["losses"] = tuple(record["losses"])
        return Progress(**record), load_file(str(newest / "state.safetensors"))
    except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
        raise DataError(
            f"the checkpoint {newest} cannot be read ({error}); run without --resume"
        ) from error


def _all(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{PREFIX}*")) if folder.is_dir() else []
