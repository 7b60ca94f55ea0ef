"""Packing: nothing lost, nothing across documents."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from flex_trainer.corpus import Sample
from flex_trainer.losses import UNLABELLED
from flex_trainer.packing import WINDOW, labels_of, pack, planned_batches, split, weight_of
from flex_trainer.recipe import Recipe

CPU = torch.device("cpu")


def sample(length: int, first: int = 0) -> Sample:
    ids = tuple(range(first, first + length))
    return Sample(tokens=ids, labels=ids, weights=(0.5,) * length)


@given(st.lists(st.integers(1, 60), max_size=30), st.integers(1, 80))
def test_every_sample_is_in_one_group_within_the_limit(lengths, tokens):
    samples = [sample(length, 100 * at) for at, length in enumerate(lengths)]
    groups = split(samples, tokens)
    assert sorted(s.tokens for g in groups for s in g) == sorted(s.tokens for s in samples)
    for group in groups:
        assert sum(len(one.tokens) for one in group) <= tokens or len(group) == 1
    # First-fit leaves at most one group half empty.
    small = [g for g in groups if 2 * sum(len(one.tokens) for one in g) <= tokens]
    assert len(small) <= 1


def test_a_row_holds_its_documents_one_behind_the_other():
    row = pack([sample(3), sample(2, 50)], CPU)
    assert row.ids.tolist() == [[0, 1, 2, 50, 51]]
    assert row.positions.tolist() == [[0, 1, 2, 0, 1]]
    assert row.labels.tolist() == [[UNLABELLED, 1, 2, UNLABELLED, 51]]
    assert row.lengths == (3, 2)


def test_a_first_token_is_no_label():
    assert labels_of(sample(3)) == 2
    assert weight_of(sample(3)) == 1.0


def test_no_more_samples_are_made_than_the_steps_need():
    made = []

    def samples_of(epoch):
        for number in range(4 * WINDOW):
            made.append((epoch, number))
            yield sample(10, number)

    recipe = Recipe(batch_tokens=100)
    found = planned_batches(samples_of, 20, recipe)
    assert len(found) == 20
    assert made == [(0, number) for number in range(WINDOW)]
    made.clear()
    assert planned_batches(samples_of, 20, recipe) == found
    # Over several passes each shows every sample once.
    steps = 2 * 4 * WINDOW // 10 + 8
    found = planned_batches(samples_of, steps, recipe)
    seen = [one.tokens[0] for batch in found for one in batch]
    assert max(map(seen.count, {0, 5, 4 * WINDOW - 1})) <= 3
    assert len(set(seen)) == 4 * WINDOW


def test_a_corpus_of_nothing_gives_no_batches():
    assert planned_batches(lambda _: [], 5, Recipe()) == []
