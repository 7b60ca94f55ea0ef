"""What a run will do: made once, stored, and not made again when the run is resumed."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flex_assist.config import PromptSettings
from flex_assist.errors import DataError
from flex_assist.files import write_json_atomically
from flex_assist.repository.snapshot import Snapshot
from flex_trainer.gate import GatePlan
from flex_trainer.recipe import Recipe
from flex_trainer.selection import AdapterTask

FILE_NAME = "plan.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """A run.

    Attributes:
        data: Digest of the files and their split: a resumed run must see the same.
        steps: Of each adapter, by name.
        gate: How much each adapter is measured on.
        step_s: Seconds a step, measured by the probe.
    """

    data: str
    recipe: Recipe
    prompt: PromptSettings
    steps: dict[str, int]
    gate: GatePlan
    step_s: float
    base_sha256: str
    languages: tuple[str, ...] | None
    train_files: tuple[str, ...] | None
    budget_s: float


def data_digest(snapshot: Snapshot) -> str:
    """One digest of all documents and of the side of the split that each is on."""
    digest = hashlib.sha256()
    for side, documents in (("train", snapshot.train), ("held-out", snapshot.held_out)):
        for document in documents:
            line = f"{side}\0{document.path}\0{document.sha256}\n"
            digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def share_steps(
    tasks: Sequence[AdapterTask], seconds: float, step_s: float, recipe: Recipe, epochs: float
) -> dict[str, int]:
    """Steps of each adapter: time by the size of its data, at most ``epochs`` passes.

    Time that a small language cannot use goes to the others.
    """
    most = {
        task.name: max(4, round(epochs * task.tokens * TOKENS_PER_TOKEN / recipe.batch_tokens))
        for task in tasks
    }
    left, chosen = int(seconds / step_s), dict[str, int]()
    waiting = sorted(tasks, key=lambda task: most[task.name] / max(1, task.tokens) ** 0.5)
    while waiting:
        weights = [task.tokens**0.5 for task in waiting]
        task = waiting.pop(0)
        fair = int(left * weights[0] / sum(weights))
        chosen[task.name] = max(4, min(most[task.name], fair))
        left = max(0, left - chosen[task.name])
    return chosen


# Samples repeat text (windows overlap, other files' pieces, padding): tokens computed for one of
# the data.
TOKENS_PER_TOKEN = 1.5


def save(plan: RunPlan, folder: Path) -> None:
    """Store the plan, atomically."""
    write_json_atomically(folder / FILE_NAME, asdict(plan))


def load(folder: Path) -> RunPlan:
    """The stored plan.

    Raises:
        DataError: There is none to resume, or it is damaged.
    """
    path = folder / FILE_NAME
    try:
        record = json.loads(path.read_text())
        return _from_record(record)
    except FileNotFoundError as error:
        raise DataError("there is no interrupted run to resume; run without --resume") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} cannot be read ({error}); run without --resume") from error


def _from_record(record: dict[str, Any]) -> RunPlan:
    lists = {
        key: tuple(record[key]) if record[key] is not None else None
        for key in ("languages", "train_files")
    }
    parts = {
        "recipe": Recipe(**record["recipe"]),
        "prompt": PromptSettings(**record["prompt"]),
        "gate": GatePlan(**record["gate"]),
    }
    return RunPlan(**{**record, **lists, **parts})
