"""Metrics, and intervals by resampling."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flex_assist.evaluate.bootstrap import ratio_difference_ci95
from flex_assist.evaluate.metrics import edit_similarity, exact_match


@pytest.mark.parametrize(
    ("predicted", "wanted", "same"),
    [
        ("a", "a", True),
        (" a\n", "a", True),
        ("a b", "ab", False),
        ("", "  ", True),
        ("A", "a", False),
    ],
)
def test_exact_match(predicted: str, wanted: str, same: bool) -> None:
    assert exact_match(predicted, wanted) is same


def test_edit_similarity() -> None:
    assert edit_similarity("abcd", "abcd ") == 1.0
    assert edit_similarity("", "") == 1.0
    assert edit_similarity("", "abcd") == 0.0
    assert edit_similarity("abcx", "abcd") == pytest.approx(0.75)


@given(st.text(max_size=30), st.text(max_size=30))
def test_edit_similarity_is_a_share_and_symmetric(one: str, two: str) -> None:
    share = edit_similarity(one, two)
    assert 0 <= share <= 1
    assert share == edit_similarity(two, one)
    assert not exact_match(one, two) or share == 1


def test_the_interval_holds_the_difference_and_narrows() -> None:
    rng = np.random.default_rng(0)
    widths = []
    for units in (10, 1000):
        sizes = rng.integers(100, 1000, units).astype(float)
        before = sizes * 0.8 + rng.normal(0, 20, units)
        after = before - sizes * 0.1 + rng.normal(0, 20, units)
        low, high = ratio_difference_ci95(before, after, sizes)
        assert low < (after.sum() - before.sum()) / sizes.sum() < high < 0
        widths.append(high - low)
    assert widths[1] < widths[0] / 3


def test_it_is_paired() -> None:
    """Files differ much, the change is small and the same: only a paired interval sees it."""
    before = [100.0, 900.0, 300.0, 5000.0] * 5
    after = [bits - 1 for bits in before]
    low, high = ratio_difference_ci95(before, after, [1000.0] * 20)
    assert low == pytest.approx(-0.001)
    assert high == pytest.approx(-0.001)


def test_the_same_seed_gives_the_same() -> None:
    rng = np.random.default_rng(0)
    given_values = (rng.random(30), rng.random(30), np.ones(30))
    assert ratio_difference_ci95(*given_values) == ratio_difference_ci95(*given_values)
    assert ratio_difference_ci95(*given_values, seed=1) != ratio_difference_ci95(*given_values)


def test_one_unit_has_no_spread() -> None:
    assert ratio_difference_ci95([4.0], [2.0], [8.0]) == (-0.25, -0.25)


def test_no_change_is_no_change() -> None:
    assert ratio_difference_ci95([4.0, 5.0], [4.0, 5.0], [8.0, 9.0]) == (0.0, 0.0)
