"""While something is measured, retrieval reaches what was trained on, and nothing else."""

from pathlib import Path

from flex_assist.config import Settings
from flex_assist.engine.local import LocalEngine
from flex_assist.locations import locate
from flex_assist.repository.documents import Document
from flex_trainer.gate import Gate


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
