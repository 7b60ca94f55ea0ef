"""Which documents are kept apart, and when training ends."""

import math

import torch

from flex_assist.repository.documents import Document
from flex_trainer import early_stopping
from flex_trainer.early_stopping import PATIENCE, Stopper, divided, due


def documents(count: int, clusters: int | None = None) -> list[Document]:
    return [
        Document(
            path=f"m{at}.py", language="python", text="x", sha256=f"{at * 7919 % 1000:04}",
            is_test=False, cluster=at % (clusters or count),
        )
        for at in range(count)
    ]  # fmt: skip


def test_a_short_run_trains_on_all_of_its_data():
    assert divided(documents(100), 1.0) == (tuple(documents(100)), ())
    assert divided(documents(20), 5.0) == (tuple(documents(20)), ())


def test_a_longer_run_keeps_whole_clusters_apart():
    train, kept = divided(documents(100, clusters=50), 3.0)
    assert len(kept) == round(early_stopping.SHARE * 100)
    assert len(train) + len(kept) == 100
    assert not {d.cluster for d in train} & {d.cluster for d in kept}


def test_the_choice_does_not_depend_on_order():
    forwards, backwards = documents(60), documents(60)[::-1]
    assert set(divided(forwards, 2.0)[1]) == set(divided(backwards, 2.0)[1])


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
