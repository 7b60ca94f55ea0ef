"""Which languages learn together, and what is told of it."""

from pathlib import Path

from flex_assist.adapters.router import SHARED
from flex_assist.config import MiningSettings
from flex_assist.repository.documents import Document
from flex_assist.repository.snapshot import Snapshot
from flex_trainer.selection import Pooled, select

SETTINGS = MiningSettings(evidence_files=10, evidence_tokens=5000)


def documents(language: str, count: int, words: int) -> tuple[Document, ...]:
    return tuple(
        Document(
            path=f"{language}{at}", language=language, text="word " * words,
            sha256=f"{language}{at}", is_test=False, cluster=at,
        )
        for at in range(count)
    )  # fmt: skip


def selected(*parts: tuple[str, int, int, int]):
    """Of languages with train files, words in each, and held-out files."""
    train = sum((documents(name, files, words) for name, files, words, _ in parts), ())
    held_out = sum((documents(name, files, 10) for name, _, _, files in parts), ())
    snapshot = Snapshot(root=Path("r"), verdicts=(), train=train, tune=(), test=held_out)
    return select(snapshot, SETTINGS, lambda text: len(text.split()))


def test_a_pooled_language_tells_what_was_missing() -> None:
    found = selected(("python", 20, 500, 8), ("go", 1, 8000, 8), ("ruby", 12, 100, 0))
    python, shared = found.tasks
    assert (python.name, shared.name) == ("python", SHARED)
    assert (python.pool, python.without, shared.without) == ({}, {}, {})
    start = "too little for an adapter of its own: "
    assert shared.pool == {
        "go": Pooled(files=9, train_tokens=8000, why=start + "9 of the 10 files"),
        "ruby": Pooled(
            files=12, train_tokens=1200,
            why=start + "1200 of the 5000 training tokens, 0 of the 8 files to test on",
        ),
    }  # fmt: skip
    assert found.too_little == {}


def test_a_language_without_an_adapter_is_told_of_by_all_others() -> None:
    found = selected(("python", 20, 500, 8), ("go", 2, 100, 1))
    (python,) = found.tasks
    assert python.without == found.too_little
    assert "3 files (1 of them to test on) and 200 training tokens" in python.without["go"]


def test_without_enough_files_to_test_on_nothing_is_trained() -> None:
    found = selected(("python", 200, 500, 7))
    assert found.tasks == ()
    assert "207 files (7 of them to test on)" in found.too_little["python"]
