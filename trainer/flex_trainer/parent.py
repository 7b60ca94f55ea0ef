"""The active version that a new one begins with: which one, what it has seen, and its weights.

What is exported is the trained update times the recipe's ``shrink``. Training goes on from the
update as it was trained, so the stored weights are divided by it again: then a run that learns
nothing gives the very version that it began with. Begun from the shrunk weights, each of n runs
would take the update by that factor back towards the base, 0.7 to the power of n in all.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from torch import Tensor

from flex_assist.adapters.manifest import PEFT_WEIGHTS, Manifest
from flex_assist.adapters.registry import AdapterVersion, Registry
from flex_assist.errors import DataError
from flex_assist.files import digest
from flex_assist.repository.documents import Document, printable_path
from flex_assist.repository.split import LEAST_TEST_FILES
from flex_trainer import outcome
from flex_trainer.events import Event, Listener
from flex_trainer.lora import ADAPTER
from flex_trainer.recipe import Recipe
from flex_trainer.selection import AdapterTask, Selection

# Of the held-out files so many must be ones that the parent was not trained on, or the gate would
# say little.
UNSEEN_SHARE = 0.5
# A LoRA of rank 256 for a base of 8 billion parameters has 1.3 GB.
MOST_BYTES = 4 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """A version whose weights training begins with.

    Attributes:
        shrink: What its update was multiplied by when it was exported.
        seen: The records of its data that its weights were trained on.
    """

    version: str
    folder: Path
    shrink: float
    seen: tuple[dict[str, Any], ...]

    def unseen(self, task: AdapterTask) -> AdapterTask:
        """``task``, measured only on held-out files that the parent was not trained on.

        Which files are held out can change as a repository does.
        """
        digests = {record["sha256"] for record in self.seen}
        paths = {record.get("path") for record in self.seen}

        def left(documents: tuple[Document, ...]) -> tuple[Document, ...]:
            return tuple(
                document
                for document in documents
                if document.sha256 not in digests and printable_path(document.path) not in paths
            )

        return replace(task, test=left(task.test), tune=left(task.tune))

    def inherited(self, train: Sequence[Document]) -> list[dict[str, Any]]:
        """Records of what the parent's weights have seen and is not in ``train``."""
        trained = {(printable_path(d.path), d.sha256) for d in train}
        gone = {
            (str(record.get("path")), record["sha256"])
            for record in self.seen
            if (record.get("path"), record["sha256"]) not in trained
        }
        return [
            {"path": path, "sha256": digest, "verdict": "inherited", "rule": "parent"}
            for path, digest in sorted(gone)
        ]

    def weights(self, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Its weights as training knows them: by the parameters' names, not shrunk.

        Args:
            wanted: The parameters that are to take them, by name.

        Raises:
            DataError: The file does not hold exactly these, in float32 and finite.
        """
        path = self.folder / PEFT_WEIGHTS
        try:
            if path.stat().st_size > MOST_BYTES:
                raise DataError("it is larger than an adapter can be")
            stored = from_bytes(path.read_bytes())
            return {
                name: _checked(name, stored, parameter.shape, self.shrink)
                for name, parameter in _same_names(wanted, stored).items()
            }
        except (OSError, ValueError, SafetensorError, DataError) as error:
            raise DataError(
                f"the weights of the active version, {str(path)!r}, cannot be used ({error}); "
                "run without --from-active"
            ) from error


def choose(
    registry: Registry,
    tasks: Sequence[AdapterTask],
    recipe: Recipe,
    base_sha256: str,
    listen: Listener,
) -> dict[str, str]:
    """The versions that adapters can begin with, by the adapters' names.

    Args:
        listen: Told why an active version cannot be begun with.
    """
    found = {}
    for task in tasks:
        active = registry.active(task.name)
        if active is None:
            continue
        usable = _usable(active, task, recipe, base_sha256)
        if isinstance(usable, str):
            note = f"{task.name} begins anew, not from {active.manifest.version}: {usable}"
            listen(Event(phase="plan", language=task.name, note=note))
        else:
            found[task.name] = usable.version
    return found


def named(registry: Registry, versions: Mapping[str, str]) -> dict[str, Parent]:
    """The parents that a run has been planned with, by the adapters' names.

    Raises:
        DataError: One is not there any more, or is damaged.
    """
    found = {}
    for name, version in versions.items():
        try:
            found[name] = _parent(registry.get(name, version))
        except (DataError, ValueError) as error:
            raise DataError(
                f"the version {version!r} that {name!r} began with cannot be used ({error}); "
                "run without --resume"
            ) from error
    return found


def unseen(selection: Selection, parents: Mapping[str, Parent]) -> Selection:
    """Each adapter measured only on what its parent was not trained on."""
    tasks = (
        parents[task.name].unseen(task) if task.name in parents else task
        for task in selection.tasks
    )
    return replace(selection, tasks=tuple(tasks))


def _usable(
    active: AdapterVersion, task: AdapterTask, recipe: Recipe, base_sha256: str
) -> Parent | str:
    """The parent, or why it cannot be one."""
    manifest = active.manifest
    if manifest.base_sha256 != base_sha256:
        return f"its base is another ({manifest.base_model!r})"
    made_with = _recipe(manifest)
    for key in ("rank", "alpha_per_rank"):
        if made_with.get(key) != getattr(recipe, key):
            return f"its {key} is {made_with.get(key)!r} and not {getattr(recipe, key)!r}"
    try:
        found = _parent(active)
        if digest(found.folder / PEFT_WEIGHTS) != manifest.artefacts.get(PEFT_WEIGHTS):
            return f"its {PEFT_WEIGHTS} has changed"
    except (OSError, ValueError) as error:
        return str(error)
    files = len(task.test)
    left = len(found.unseen(task).test)
    if left < UNSEEN_SHARE * files or left < min(files, LEAST_TEST_FILES):
        return f"it was trained on {files - left} of the {files} files that are held out now"
    return found


def _parent(version: AdapterVersion) -> Parent:
    shrink: Any = _recipe(version.manifest).get("shrink")
    if type(shrink) not in (int, float) or not 0 < shrink <= 1:
        raise ValueError(f"its manifest gives {shrink!r} as shrink")
    return Parent(
        version=version.manifest.version,
        folder=version.folder,
        shrink=float(shrink),
        seen=tuple(
            record
            for record in version.manifest.data
            if record["verdict"] in outcome.SEEN and isinstance(record.get("sha256"), str)
        ),
    )


def _recipe(manifest: Manifest) -> dict[str, Any]:
    details = manifest.details
    found = details.get("recipe") if isinstance(details, dict) else None
    return found if isinstance(found, dict) else {}


def _same_names(wanted: Mapping[str, Tensor], stored: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    other = {_stored_name(name) for name in wanted} ^ set(stored)
    if other:
        raise DataError(f"{sorted(other)[0]!r} is missing or too much")
    return wanted


def _checked(name: str, stored: Mapping[str, Tensor], shape: torch.Size, shrink: float) -> Tensor:
    tensor = stored[_stored_name(name)]
    if tensor.dtype != torch.float32 or tensor.shape != shape:
        raise DataError(f"{name!r} is {tensor.dtype} of {tuple(tensor.shape)}, not {tuple(shape)}")
    if not math.isfinite(float(tensor.abs().sum())):
        raise DataError(f"{name!r} has values that are no numbers")
    return tensor / shrink if ".lora_B." in name else tensor


def _stored_name(name: str) -> str:
    """A parameter's name as PEFT writes it."""
    return name.replace(f".{ADAPTER}.", ".")
