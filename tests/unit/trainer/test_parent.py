"""What a new version may begin with, and what is known of what its weights have seen."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save

from flex_assist.adapters.manifest import FILE_NAME, PEFT_WEIGHTS
from flex_assist.adapters.registry import Registry
from flex_assist.errors import DataError
from flex_assist.files import digest
from flex_assist.locations import locate
from flex_assist.repository.documents import Document
from flex_trainer import parent
from flex_trainer.recipe import Recipe
from flex_trainer.selection import AdapterTask

BASE = "ab" * 32
A, B = "base_model.model.q.lora_A.default.weight", "base_model.model.q.lora_B.default.weight"
WANTED = {A: torch.zeros(2, 3), B: torch.zeros(4, 2)}


def document(path: str, text: str = "") -> Document:
    return Document(
        path=path, language="go", text=text, sha256=f"digest of {text or path}", is_test=False,
        cluster=0,
    )  # fmt: skip


def task(train: tuple[str, ...] = ("a",), held_out: tuple[str, ...] = ("y", "z")) -> AdapterTask:
    return AdapterTask(
        name="go", languages=("go",), tokens=1,
        train=tuple(document(name) for name in train),
        tune=(),
        test=tuple(document(name) for name in held_out),
    )  # fmt: skip


def record(path: str, verdict: str = "train", digest: str | None = "") -> dict[str, Any]:
    sha256 = f"digest of {path}" if digest == "" else digest
    return {"path": path, "sha256": sha256, "verdict": verdict, "rule": "kept"}


def stored(**changes: torch.Tensor) -> bytes:
    tensors = {
        "base_model.model.q.lora_A.weight": torch.full((2, 3), 2.0),
        "base_model.model.q.lora_B.weight": torch.full((4, 2), 7.0),
        **changes,
    }
    return save(tensors)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(locate(), tmp_path)


@pytest.fixture
def active(registry: Registry, promote: Any) -> Any:
    """Publishes an active version, with changes to its manifest."""

    def make(content: bytes | None = None, **changes: Any) -> Path:
        content = stored() if content is None else content
        recipe = {"rank": 2, "alpha_per_rank": 2, "shrink": 0.7}
        values = {"base_sha256": BASE, "details": {"recipe": recipe}, **changes}
        found = promote(registry, "go", **values)
        path = found.folder / PEFT_WEIGHTS
        path.write_bytes(content)
        manifest = json.loads((found.folder / FILE_NAME).read_text())
        manifest["artefacts"] = {PEFT_WEIGHTS: digest(path), **changes.get("artefacts", {})}
        (found.folder / FILE_NAME).write_text(json.dumps(manifest))
        return Path(found.folder)

    return make


def chosen(registry: Registry, one: AdapterTask | None = None) -> tuple[dict[str, str], list[str]]:
    told: list[Any] = []
    recipe = Recipe(rank=2)
    found = parent.choose(registry, [one or task()], recipe, BASE, told.append)
    return found, [event.note for event in told]


def test_the_active_version_is_begun_with_and_its_shrinking_undone(registry, active):
    folder = active()
    found, notes = chosen(registry)
    assert found == {"go": folder.name}
    assert notes == []
    weights = parent.named(registry, found)["go"].weights(WANTED)
    assert set(weights) == set(WANTED)
    assert torch.equal(weights[A], torch.full((2, 3), 2.0))
    assert torch.allclose(weights[B], torch.full((4, 2), 10.0))


def test_without_an_active_version_nothing_is_said(registry):
    assert chosen(registry) == ({}, [])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"base_sha256": "cd" * 32}, "its base is another"),
        ({"details": {"recipe": {"rank": 8, "alpha_per_rank": 2, "shrink": 0.7}}}, "its rank is 8"),
        ({"details": {"recipe": {"rank": 2, "shrink": 0.7}}}, "its alpha_per_rank is None"),
        ({"details": {"recipe": {"rank": 2, "alpha_per_rank": 2}}}, "None as shrink"),
        ({"details": {"recipe": {"rank": 2, "alpha_per_rank": 2, "shrink": 0}}}, "0 as shrink"),
        ({"details": {"recipe": []}}, "its rank is None"),
        ({"artefacts": {PEFT_WEIGHTS: "0"}}, "has changed"),
        ({"data": [record("y"), record("z")]}, "2 of the 2 files that are held out now"),
    ],
)
def test_another_version_is_not_begun_with_and_told(registry, active, changes, said):
    active(**changes)
    found, (note,) = chosen(registry)
    assert found == {}
    assert note.startswith("go begins anew, not from ")
    assert said in note


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "cannot be used"),
        (b"\xff" * 64, "cannot be used"),
        (stored(other=torch.zeros(1)), "'other' is missing or too much"),
        (save({"base_model.model.q.lora_A.weight": torch.zeros(2, 3)}), "missing or too much"),
        (stored(**{"base_model.model.q.lora_B.weight": torch.zeros(2, 4)}), r"not \(4, 2\)"),
        (
            stored(**{"base_model.model.q.lora_B.weight": torch.zeros(4, 2).half()}),
            "torch.float16",
        ),
        (
            stored(**{"base_model.model.q.lora_A.weight": torch.full((2, 3), torch.nan)}),
            "no numbers",
        ),
    ],
)
def test_weights_that_do_not_fit_are_one_clear_error(registry, active, content, said):
    folder = active(content)
    one = parent.named(registry, {"go": folder.name})["go"]
    with pytest.raises(DataError, match=said) as raised:
        one.weights(WANTED)
    assert "run without --from-active" in str(raised.value)


def test_a_parent_that_is_gone_is_told(registry):
    with pytest.raises(DataError, match="run without --resume"):
        parent.named(registry, {"go": "20260101T000000Z-0000"})


def test_what_the_parent_was_trained_on_measures_nothing(registry, active):
    # y is held out under another text than it was trained with, z under another name.
    seen = [record("y", digest="old text of y"), record("b", digest="digest of z"), record("c")]
    folder = active(data=[*seen, record("x", "held-out"), record("w", "skip", None)])
    parents = parent.named(registry, {"go": folder.name})
    selection = SimpleNamespace(tasks=(task(held_out=("w", "x", "y", "z")),), counts={},
                                too_little={})  # fmt: skip
    one = parents["go"].unseen(selection.tasks[0])
    assert [d.path for d in one.test] == ["w", "x"]
    assert one.train == selection.tasks[0].train


def test_what_is_gone_from_the_data_stays_known(registry, active):
    folder = active(
        data=[
            record("kept"),
            record("changed", digest="old"),
            record("deleted"),
            record("now-held-out"),
            record("from-before", "inherited"),
            record("measured", "held-out"),
            record("skipped", "skip", None),
            record("odd", "train", None),
        ]
    )
    one = parent.named(registry, {"go": folder.name})["go"]
    train = [document("kept"), document("changed", "new"), document("added")]
    inherited = one.inherited(train)
    assert {entry["verdict"] for entry in inherited} == {"inherited"}
    assert [(entry["path"], entry["sha256"]) for entry in inherited] == [
        ("changed", "old"),
        ("deleted", "digest of deleted"),
        ("from-before", "digest of from-before"),
        ("now-held-out", "digest of now-held-out"),
    ]
