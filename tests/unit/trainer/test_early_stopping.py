"""What is looked at on the way, and when training ends."""

import math

import torch

from flex_assist.repository.documents import Document
from flex_trainer.early_stopping import PATIENCE, Stopper, due, validation


def documents(count: int) -> list[Document]:
    return [
        Document(
            path=f"m{at}.py", language="python", text="x", sha256=f"{at * 7919 % 1000:04}",
            is_test=False, cluster=at,
        )
        for at in range(count)
    ]  # fmt: skip


def test_short_runs_and_few_documents_are_not_validated():
    assert validation(documents(100), 1.0) == ()
    assert validation(documents(1), 5.0) == ()
    assert validation(documents(3), 2.0) == tuple(documents(3))


def test_ends_after_some_evaluations_that_were_all_worse():
    stopper = Stopper()
    assert stopper.best == (0, math.inf)
    weights = {"w": torch.zeros(1)}
    for step, loss in enumerate([2.0, 1.5, 1.6, 1.5, 1.7]):
        assert not stopper.exhausted
        weights["w"] += 1
        stopper.see(step, loss, weights)
    assert stopper.exhausted
    assert stopper.best == (1, 1.5)
    assert stopper.weights is not None
    assert stopper.weights["w"].item() == 2.0
    assert PATIENCE == 3


def test_looks_some_times_and_at_the_end():
    steps = [step for step in range(1, 101) if due(step, 100)]
    assert len(steps) == 13
    assert steps[-1] == 100
    assert due(1, 1)
