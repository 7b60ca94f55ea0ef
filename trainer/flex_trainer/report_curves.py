"""The places of a drawing: the template only puts them down as SVG."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

# Of the drawing, in its own units: small, so that letters stay large on a narrow screen.
WIDTH, HEIGHT = 420.0, 240.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 10.0, 14.0, 40.0
BAR_HEIGHT = 78.0
# More points than this cannot be told apart.
MOST_POINTS = 300
# Of the value before, as in the display while a run goes on.
SMOOTHING = 0.9
# Of the single steps' losses; those beyond are drawn at the edge.
SHOWN_SHARE = 0.98
# What is beyond, or no number, is not drawn.
LARGEST = 1e6
Point = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A mark on an axis."""

    at: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Losses over steps.

    Attributes:
        raw: Points of the single steps as SVG writes them, one text a line to draw.
        smooth: The same, smoothed; anew in each stage.
        validation: Places of the points.
        common_until: Where the common stage ends; None without one.
    """

    raw: tuple[str, ...]
    smooth: tuple[str, ...]
    validation: tuple[Point, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    common_until: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A change with its interval, on an axis with 0 on it."""

    low: float
    middle: float
    high: float
    zero: float
    ticks: tuple[Tick, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Axis:
    """From values to places: ``low`` lies at ``start``, ``high`` at ``end``."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """The place of a value; of one beyond the axis, its end."""
        inside = min(max(value, self.low), self.high)
        share = (inside - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)


def loss_curve(
    losses: Sequence[float],
    common: Sequence[float],
    common_steps: int,
    validation: Sequence[tuple[int, float]],
) -> Curve | None:
    """The drawing of a training; None where nothing was trained.

    Args:
        losses: Of the adapter's own steps.
        common: Of the common stage's steps before them, where they are known.
        validation: Step of the adapter's own, and loss.
    """
    own = [(common_steps + at, loss) for at, loss in enumerate(losses, start=1)]
    before = [(at, loss) for at, loss in enumerate(common, start=1)]
    checked = [(common_steps + step, loss) for step, loss in validation]
    stages = [kept for stage in (before, own) if (kept := _finite(stage))]
    checked = _finite(checked)
    if not stages and not checked:
        return None
    smooth = [_smoothed(stage) for stage in stages]
    x_axis = _Axis(low=0, high=_last(stages, checked), start=LEFT, end=WIDTH - RIGHT)
    low, high = _span(stages, smooth, checked)
    y_ticks = ticks(low, high, 5)
    y_axis = _Axis(
        low=min(low, y_ticks[0]), high=max(high, y_ticks[-1]), start=HEIGHT - BOTTOM, end=TOP
    )
    return Curve(
        raw=tuple(_line(stage, x_axis, y_axis) for stage in stages),
        smooth=tuple(_line(stage, x_axis, y_axis) for stage in smooth),
        validation=tuple((x_axis.at(step), y_axis.at(loss)) for step, loss in checked),
        x_ticks=_marks(x_axis, ticks(0, x_axis.high, 5)),
        y_ticks=_marks(y_axis, y_ticks),
        common_until=x_axis.at(common_steps) if common_steps else None,
    )


def interval(low: float, middle: float, high: float) -> Interval | None:
    """The drawing of a change between ``low`` and ``high``; None where one is no number."""
    if not all(abs(value) < LARGEST for value in (low, middle, high)):
        return None
    least, most = min(low, middle, 0.0), max(high, middle, 0.0)
    room = 0.08 * (most - least) or 0.01
    axis = _Axis(low=least - room, high=most + room, start=LEFT, end=WIDTH - LEFT)
    return Interval(
        low=axis.at(low),
        middle=axis.at(middle),
        high=axis.at(high),
        zero=axis.at(0.0),
        ticks=_marks(axis, ticks(axis.low, axis.high, 4)),
    )


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers from ``low`` to ``high``: 1, 2 or 5 times a power of ten apart."""
    wanted = (high - low) / max(1, about)
    if wanted <= 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(wanted))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= wanted * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)] or [low]


def _finite(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    return [(step, loss) for step, loss in points if abs(loss) < LARGEST]


def _smoothed(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    found: list[tuple[int, float]] = []
    for step, loss in points:
        mean = SMOOTHING * found[-1][1] + (1 - SMOOTHING) * loss if found else loss
        found.append((step, mean))
    return found


def _last(stages: Sequence[Sequence[tuple[int, float]]], checked: Sequence[Point]) -> float:
    return float(max(step for points in (*stages, checked) for step, _ in points))


def _span(
    stages: Sequence[Sequence[tuple[int, float]]],
    smooth: Sequence[Sequence[tuple[int, float]]],
    checked: Sequence[tuple[int, float]],
) -> tuple[float, float]:
    """What the loss axis shows: all that is smoothed or validated, nearly all single steps."""
    single = sorted(loss for stage in stages for _, loss in stage)
    aside = int(len(single) * (1 - SHOWN_SHARE) / 2)
    ends = [single[aside], single[-1 - aside]] if single else []
    values = ends + [loss for points in (*smooth, checked) for _, loss in points]
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.1, high + 0.1)


def _line(points: Sequence[tuple[int, float]], x_axis: _Axis, y_axis: _Axis) -> str:
    stride = -(-len(points) // MOST_POINTS)
    # The last one always.
    shown = [*points[:-1:stride], points[-1]]
    return " ".join(f"{x_axis.at(step)},{y_axis.at(loss)}" for step, loss in shown)


def _marks(axis: _Axis, values: Sequence[float]) -> tuple[Tick, ...]:
    """Ticks with as many decimals as tell them apart."""
    apart = values[1] - values[0] if len(values) > 1 else 0.001
    decimals = max(0, math.ceil(-math.log10(apart) - 1e-9))
    return tuple(Tick(at=axis.at(value), label=_label(value, decimals)) for value in values)


def _label(value: float, decimals: int) -> str:
    # Adding 0 turns -0.0 into 0.0.
    return f"{round(value, decimals) + 0.0:.{decimals}f}".replace("-", "−")
