"""Checkpoints of a run: whole or not there, without pickle.

A checkpoint is one folder of safetensors and JSON that appears by a rename. The one before it is
kept: should the newest turn out to be damaged, little is lost. Everything else that a step needs
(its batch, its random draws) follows from the seed and the step's number.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor

from flex_assist.errors import DataError
from flex_assist.files import write_bytes_atomically, write_json_atomically
from flex_assist.locations import private_directory
from flex_trainer import recovery

PREFIX = "step-"
STATE_FILE, RECORD_FILE = "state.safetensors", "progress.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a run stands.

    Attributes:
        step: Steps done.
        tokens: Labelled tokens seen.
        seconds: Training time so far.
        strength: The regularizer's lambda.
        losses: Of each step, nats a label.
        validation: Step and loss, nats a label, of each evaluation on code not trained on.
        recoveries: How often the run blew up; with it the rate is lower and rho higher.
        ended: No more steps are taken, though there may be batches left.
    """

    step: int
    tokens: int
    seconds: float
    strength: float
    losses: tuple[float, ...] = ()
    validation: tuple[tuple[int, float], ...] = ()
    recoveries: int = 0
    ended: bool = False

    @property
    def rate_scale(self) -> float:
        """What the planned learning rate is multiplied by."""
        return float(recovery.RATE_FACTOR**self.recoveries)

    @property
    def rho_scale(self) -> float:
        """What Sophia's planned rho is multiplied by."""
        return float(recovery.RHO_FACTOR**self.recoveries)


def save(folder: Path, progress: Progress, tensors: Mapping[str, Tensor], run: str) -> Path:
    """Write a checkpoint; the one before it is kept, all others are dropped.

    One of a later step is damaged, or was left by a run that went back.

    Args:
        run: Names the run: its data, base and recipe.
    """
    private_directory(folder)
    target = folder / f"{PREFIX}{progress.step:07d}"
    part = folder / f".{target.name}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(mode=0o700)
    content = to_bytes(dict(tensors))
    digest = hashlib.sha256(content).hexdigest()
    record = {"run": run, "sha256": digest, "progress": asdict(progress)}
    write_bytes_atomically(part / STATE_FILE, content)
    write_json_atomically(part / RECORD_FILE, record)
    if target.exists():
        shutil.rmtree(target)
    part.rename(target)
    others = [path for path in _all(folder) if path != target]
    before = [path for path in others if path.name < target.name]
    for other in set(others) - set(before[-1:]):
        shutil.rmtree(other, ignore_errors=True)
    return target


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write a safetensors file. By Python: a full disk is then an ``OSError`` like any other."""
    path.write_bytes(to_bytes(dict(tensors), metadata=metadata))


def latest(
    folder: Path, run: str, tell: Callable[[str], None]
) -> tuple[Progress, dict[str, Tensor]] | None:
    """The newest checkpoint that is whole, or None.

    Args:
        tell: Told of each that is damaged.

    Raises:
        DataError: A checkpoint is of another run.
    """
    for path in reversed(_all(folder)):
        try:
            return _read(path, run)
        except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
            tell(f"the checkpoint {path.name} is damaged ({error}); looking for the one before")
    return None


def _read(path: Path, run: str) -> tuple[Progress, dict[str, Tensor]]:
    record = json.loads((path / RECORD_FILE).read_text())
    content = (path / STATE_FILE).read_bytes()
    if hashlib.sha256(content).hexdigest() != record["sha256"]:
        raise ValueError("its content has changed")
    if record["run"] != run:
        raise DataError(
            f"the checkpoint {path} is of another model, other data or another recipe; "
            "run without --resume"
        )
    values = record["progress"]
    return progress_from_record(values), from_bytes(content)


def progress_from_record(record: dict[str, Any]) -> Progress:
    """From what JSON holds."""
    pairs = tuple((int(step), float(loss)) for step, loss in record["validation"])
    return Progress(**{**record, "losses": tuple(record["losses"]), "validation": pairs})


def _all(folder: Path) -> list[Path]:
    """By step."""
    found = folder.glob(f"{PREFIX}*") if folder.is_dir() else ()
    return sorted(path for path in found if path.name.removeprefix(PREFIX).isdecimal())
