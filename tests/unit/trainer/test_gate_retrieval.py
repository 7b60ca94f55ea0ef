"""While something is measured, retrieval reaches what was trained on, and rivals what is new."""

from pathlib import Path

import pytest

from flex_assist.config import Settings
from flex_assist.engine.local import LocalEngine
from flex_assist.locations import locate
from flex_assist.repository.documents import Document
from flex_trainer.gate import Active, Candidate, Gate
from flex_trainer.gate_windows import Bits, Window


def document(name: str) -> Document:
    text = f"def shared_name_of_{name}(shared_value):\n    return shared_value\n"
    return Document(
        path=f"{name}.py", language="python", text=text, sha256=name, is_test=False, cluster=0
    )


def test_only_training_files_are_found(tmp_path: Path) -> None:
    settings = Settings()
    gate = Gate(
        engine=LocalEngine(settings.engine), model=tmp_path / "none.gguf", settings=settings,
        locations=locate(), train=[document("one"), document("two")],
    )  # fmt: skip
    # The very text of a held-out file finds the training files and not itself.
    held_out = document("three")
    found = gate._filler.index.search(
        held_out.text, "", path="elsewhere.py", language="python", count=10
    )
    assert {chunk.path for chunk in found} == {"one.py", "two.py"}


@pytest.mark.parametrize(("unseen", "compared"), [(8, True), (7, True), (3, True), (2, False)])
def test_the_active_version_is_compared_on_what_it_has_not_seen(
    tmp_path: Path, unseen: int, compared: bool
) -> None:
    settings, documents = Settings(), [document(str(number)) for number in range(8)]
    active = Active(
        version="20260101T000000Z-0000",
        adapter=Candidate(lora=tmp_path / "none.gguf", fim=None),
        seen=frozenset(str(number) for number in range(unseen, 8)),
    )
    gate = Gate(
        engine=LocalEngine(settings.engine), model=tmp_path / "none.gguf", settings=settings,
        locations=locate(), train=[], active=active,
    )  # fmt: skip
    # The active version needs half of what the new one does, on each of eight files.
    bits = Bits(
        windows=tuple(Window(file=number, tokens=(1, 2), size=10) for number in range(8)),
        arms=((30.0,) * 8, (20.0,) * 8, (10.0,) * 8),
    )
    found = gate._rival_figures(documents, bits, 0)
    if compared:
        assert (found["active"].windows, found["active"].ci95) == (unseen, (1.0, 1.0))
    else:
        assert "only 2 of 8 windows" in found["uncompared"]
        assert "active" not in found
