"""What a run will do: made once, stored, and not made again when the run is resumed."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from flex_assist.config import PromptSettings, TrainingSettings
from flex_assist.errors import DataError
from flex_assist.files import write_json_atomically
from flex_assist.repository.snapshot import Snapshot
from flex_trainer.gate import GatePlan
from flex_trainer.planner import Prediction
from flex_trainer.recipe import Recipe
from flex_trainer.startup import ASKED_FILE

FILE_NAME = "plan.json"
# Of a recipe: where and how it is computed, not what.
MACHINE = ("device", "dtype", "threads", "row_tokens", "checkpointing", "nf4")
NOTHING = "there is no interrupted run to resume; run without --resume"
Stored = TypeVar("Stored")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a run was asked for: written before anything is done."""

    languages: tuple[str, ...] | None
    train_files: tuple[str, ...] | None
    budget_s: float
    base: str
    training: TrainingSettings
    from_active: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """A run.

    Attributes:
        data: Digest of the files and their split: a resumed run must see the same.
        steps: Of each adapter, by name.
        fixed_steps: They were asked for, and are not cut short when time is up.
        gate: How much each adapter is measured on.
        step_s: Seconds a step, measured by the probe.
        prediction: What all of it is expected to take.
        parents: Of adapters that begin with the weights of a version: its name.
    """

    data: str
    recipe: Recipe
    prompt: PromptSettings
    steps: dict[str, int]
    fixed_steps: bool
    gate: GatePlan
    step_s: float
    base_sha256: str
    prediction: Prediction
    parents: dict[str, str] = field(default_factory=dict)

    @property
    def identity(self) -> str:
        """Names all that decides the weights, but for rounding: others' checkpoints are refused."""
        recipe = {k: v for k, v in asdict(self.recipe).items() if k not in MACHINE}
        parts = (
            self.data, self.base_sha256, recipe, asdict(self.prompt), self.steps, self.parents
        )  # fmt: skip
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def describe(plan: RunPlan) -> str:
    """One line for people."""
    steps = ", ".join(f"{name} {count} steps" for name, count in plan.steps.items())
    recipe, expected = plan.recipe, plan.prediction
    parents = "".join(f"; {name} from {version}" for name, version in plan.parents.items())
    recomputed = ", activations computed again" if recipe.checkpointing else ""
    return (
        f"{where(recipe)}, {recipe.threads} threads, rows of {recipe.row_tokens} "
        f"tokens{recomputed}; {steps} of {plan.step_s:.2f} s{parents}; "
        f"about {expected.memory_mb:.0f} MB "
        f"and {expected.total_s:.0f} s in all"
    )


def where(recipe: Recipe) -> str:
    """Device and precision, for people."""
    return f"{recipe.device}, {recipe.dtype}" + (", the base in 4 bits" if recipe.nf4 else "")


def data_digest(snapshot: Snapshot) -> str:
    """One digest of all documents, of the side of the split that each is on, and of the history."""
    # Commits are learnt from, too.
    digest = hashlib.sha256((snapshot.head or "").encode())
    parts = (("train", snapshot.train), ("tune", snapshot.tune), ("test", snapshot.test))
    for side, documents in parts:
        for document in documents:
            line = f"{side}\0{document.path}\0{document.sha256}\n"
            digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def check(plan: RunPlan, snapshot: Snapshot, adapters: Sequence[str], base_sha256: str) -> None:
    """Refuse a stored plan that is of other work.

    Raises:
        DataError: The data, the adapters to make or the base are not those of the plan.
    """
    if set(adapters) != set(plan.steps):
        raise DataError(
            "the settings of mining have changed since the run was interrupted; "
            "run without --resume"
        )
    if plan.data != data_digest(snapshot):
        raise DataError(
            "the repository has changed since the run was interrupted; run without --resume"
        )
    if plan.base_sha256 != base_sha256:
        raise DataError("the interrupted run had another base model; run without --resume")


def save_asked(asked: Asked, folder: Path) -> None:
    """Store what a run is asked for, atomically."""
    write_json_atomically(folder / ASKED_FILE, asdict(asked))


def load_asked(folder: Path) -> Asked:
    """What the interrupted run was asked for.

    Raises:
        DataError: There is none to resume, or it is damaged.
    """
    found = _read(folder / ASKED_FILE, asked_from_record)
    if found is None:
        raise DataError(NOTHING)
    return found


def asked_from_record(record: dict[str, Any]) -> Asked:
    """The reverse of ``asdict``."""
    lists = ("languages", "train_files")
    tuples = {key: None if record[key] is None else tuple(record[key]) for key in lists}
    return Asked(**{**record, **tuples, "training": TrainingSettings(**record["training"])})


def save(plan: RunPlan, folder: Path) -> None:
    """Store the plan, atomically."""
    write_json_atomically(folder / FILE_NAME, asdict(plan))


def load(folder: Path) -> RunPlan | None:
    """The stored plan; None if the run was interrupted before it was made.

    Raises:
        DataError: It is damaged.
    """
    return _read(folder / FILE_NAME, from_record)


def from_record(record: dict[str, Any]) -> RunPlan:
    """The reverse of ``asdict``."""
    parts = {
        "recipe": Recipe(**record["recipe"]),
        "prompt": PromptSettings(**record["prompt"]),
        "gate": GatePlan(**record["gate"]),
        "prediction": Prediction(**record["prediction"]),
    }
    return RunPlan(**{**record, **parts})


def _read(path: Path, parse: Callable[[dict[str, Any]], Stored]) -> Stored | None:
    try:
        return parse(json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} cannot be read ({error}); run without --resume") from error
