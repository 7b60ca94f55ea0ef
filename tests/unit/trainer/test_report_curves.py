"""Places of the drawings: inside the frame, in order, and true to the numbers."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flex_trainer import report_curves as curves

LOSSES = st.lists(st.floats(-1e5, 1e5), max_size=700)


def points(text: str) -> list[tuple[float, float]]:
    return [tuple(map(float, pair.split(","))) for pair in text.split(" ")]  # type: ignore[misc]


def test_a_falling_loss_falls() -> None:
    drawn = curves.loss_curve([3.0 - 0.01 * at for at in range(100)], [], 0, [])
    assert drawn is not None
    (line,) = map(points, drawn.smooth)
    assert [x for x, _ in line] == sorted(x for x, _ in line)
    # Down the page is a greater y.
    assert [y for _, y in line] == sorted(y for _, y in line)
    assert drawn.common_until is None
    assert [tick.label for tick in drawn.x_ticks] == ["0", "20", "40", "60", "80", "100"]


def test_smoothing_is_that_of_the_display() -> None:
    drawn = curves.loss_curve([1.0, 2.0, 2.0], [], 0, [(3, 1.0)])
    assert drawn is not None
    bottom, top = (next(t.at for t in drawn.y_ticks if t.label == one) for one in ("1.0", "2.0"))
    heights = [bottom + (top - bottom) * (value - 1.0) for value in (1.0, 1.1, 1.19)]
    assert [y for _, y in points(drawn.smooth[0])] == pytest.approx(heights, abs=0.11)
    assert drawn.validation[0][1] == bottom


def test_the_common_stage_comes_first() -> None:
    drawn = curves.loss_curve([1.0] * 30, [2.0] * 10, 10, [(30, 1.5)])
    assert drawn is not None
    common, own = map(points, drawn.raw)
    assert drawn.common_until == common[-1][0]
    assert own[0][0] > common[-1][0]
    assert own[-1][0] == drawn.validation[0][0] == curves.WIDTH - curves.RIGHT
    # Its losses may not be known; its place is kept.
    unknown = curves.loss_curve([1.0] * 30, [], 10, [])
    assert unknown is not None
    assert (unknown.common_until, len(unknown.raw)) == (drawn.common_until, 1)


def test_one_wild_step_does_not_flatten_the_rest() -> None:
    calm = [1.0 + 0.001 * at for at in range(200)]
    drawn = curves.loss_curve([*calm, 500.0, *calm], [], 0, [])
    assert drawn is not None
    # Smoothed, the step is 50 high.
    assert float(drawn.y_ticks[-1].label.replace("−", "-")) <= 60


@given(LOSSES, LOSSES, st.integers(0, 50))
def test_all_lies_inside_the_frame(losses, common, steps) -> None:
    steps = max(steps, len(common))
    drawn = curves.loss_curve(losses, common, steps, [(1, loss) for loss in losses[:3]])
    if drawn is None:
        assert not losses
        assert not common
        return
    for line in (*drawn.raw, *drawn.smooth):
        assert len(points(line)) <= curves.MOST_POINTS + 1
        for x, y in points(line):
            assert curves.LEFT <= x <= curves.WIDTH - curves.RIGHT
            assert curves.TOP <= y <= curves.HEIGHT - curves.BOTTOM
    labels = [tick.label for tick in drawn.y_ticks]
    assert len(set(labels)) == len(labels) <= 7


@pytest.mark.parametrize("losses", [[], [math.nan], [math.inf, -math.inf]])
def test_without_numbers_nothing_is_drawn(losses) -> None:
    assert curves.loss_curve(losses, [], 0, []) is None


def test_an_interval_keeps_its_order_and_shows_no_change() -> None:
    found = curves.interval(-0.34, -0.25, -0.15)
    assert found is not None
    assert curves.LEFT < found.low < found.middle < found.high < found.zero
    assert found.zero < curves.WIDTH - curves.LEFT
    assert next(tick.at for tick in found.ticks if tick.label in ("0.0", "0")) == found.zero
    assert curves.interval(math.nan, 0.0, 1.0) is None
    nothing = curves.interval(0.0, 0.0, 0.0)
    assert nothing is not None
    assert nothing.low == nothing.high == nothing.zero


@given(st.floats(-100, 100), st.floats(1e-6, 100), st.integers(2, 8))
def test_ticks_are_round_and_inside(low, size, about) -> None:
    found = curves.ticks(low, low + size, about)
    assert 1 <= len(found) <= about + 2
    assert all(low - 1e-6 * size <= tick <= low + size * (1 + 1e-6) for tick in found)
