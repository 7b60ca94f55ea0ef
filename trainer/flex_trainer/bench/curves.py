"""Held-out bits per byte over training time, as one SVG that follows the reader's theme."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from statistics import mean
from typing import Any

WIDTH, HEIGHT = 760, 430
LEFT, RIGHT, TOP, BOTTOM = 64, 128, 62, 52
LABEL_GAP = 18
TICKS = 5
NAMES = {"sophia": "Sophia", "adamw": "AdamW"}
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #57606a; }
.title { font-size: 15px; font-weight: 600; fill: #1f2328; }
.back { fill: #ffffff; } .grid { stroke: #d8dee4; }
path { fill: none; stroke-linejoin: round; } .seed { stroke-width: 1; opacity: .45; }
.mean { stroke-width: 2.5; } .label { font-weight: 600; }
.sophia { stroke: #0969da; } .adamw { stroke: #bc4c00; }
.label.sophia { fill: #0969da; stroke: none; } .label.adamw { fill: #bc4c00; stroke: none; }
@media (prefers-color-scheme: dark) {
  text { fill: #9198a1; } .title { fill: #f0f6fc; } .back { fill: #0d1117; }
  .grid { stroke: #30363d; } .sophia { stroke: #58a6ff; } .adamw { stroke: #f0883e; }
  .label.sophia { fill: #58a6ff; } .label.adamw { fill: #f0883e; }
}
""".strip()
Point = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """A scale from values to places on the page, with its round ticks."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]

    def at(self, value: float) -> float:
        """The place of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def axis(values: Sequence[float], start: float, end: float, *, whole: bool = True) -> Axis:
    """From the tick below the least value to the one above the greatest.

    Args:
        whole: Without it the axis ends at the greatest value itself.
    """
    least, most = min(values), max(values)
    step = _round_step((most - least) / TICKS if most > least else max(abs(most), 1.0) / TICKS)
    first, last = math.floor(least / step), math.ceil(most / step)
    last = max(last, first + 1)
    ticks = tuple(number * step for number in range(first, last + 1))
    if whole or most <= ticks[0]:
        return Axis(low=ticks[0], high=ticks[-1], start=start, end=end, ticks=ticks)
    within = tuple(tick for tick in ticks if tick <= most)
    return Axis(low=ticks[0], high=most, start=start, end=end, ticks=within)


def draw(arms: Sequence[Mapping[str, Any]], caption: str) -> str:
    """The picture: a thin line for each seed, a thick one for their mean.

    Args:
        arms: Each with ``optimizer`` and ``curve``, pairs of seconds and bits per byte.
        caption: One sentence, read out to those who do not see the picture.
    """
    groups: dict[str, list[Sequence[Point]]] = {}
    for arm in arms:
        groups.setdefault(str(arm["optimizer"]), []).append(arm["curve"])
    points = [point for curves in groups.values() for curve in curves for point in curve]
    x = axis([0.0, *(seconds for seconds, _ in points)], LEFT, WIDTH - RIGHT, whole=False)
    y = axis([bits for _, bits in points], HEIGHT - BOTTOM, TOP)
    means = {name: _mean(curves) for name, curves in groups.items()}
    parts = [
        *_frame(x, y),
        *(
            _line(curve, x, y, f"seed {name}")
            for name, curves in groups.items()
            for curve in curves
        ),
        *(_line(curve, x, y, f"mean {name}") for name, curve in means.items()),
        *_labels({name: curve[-1] for name, curve in means.items()}, x, y),
    ]
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" role="img" aria-labelledby="caption">\n'
        f'<title id="caption">{escape(caption)}</title>\n<style>{STYLE}</style>\n{body}\n</svg>\n'
    )


def _frame(x: Axis, y: Axis) -> list[str]:
    parts = [
        f'<rect class="back" width="{WIDTH}" height="{HEIGHT}"/>',
        _text(LEFT, 26, "Held-out bits per byte over training time", "title"),
        _text(LEFT, 46, "lower is better; thin: one seed, thick: their mean"),
        _text((x.start + x.end) / 2, HEIGHT - 10, "seconds of training", anchor="middle"),
    ]
    for tick in y.ticks:
        place = y.at(tick)
        parts.append(
            f'<line class="grid" x1="{x.start:.1f}" x2="{x.end:.1f}" '
            f'y1="{place:.1f}" y2="{place:.1f}"/>'
        )
        parts.append(_text(x.start - 8, place + 4, _number(tick, y), anchor="end"))
    for tick in x.ticks:
        parts.append(_text(x.at(tick), y.start + 20, _number(tick, x), anchor="middle"))
    return parts


def _line(curve: Sequence[Point], x: Axis, y: Axis, kind: str) -> str:
    places = " L".join(f"{x.at(seconds):.1f} {y.at(bits):.1f}" for seconds, bits in curve)
    return f'<path class="{kind}" d="M{places}"/>'


def _labels(ends: Mapping[str, Point], x: Axis, y: Axis) -> list[str]:
    """Names beside the ends of the lines, moved apart where they would touch."""
    parts, free = [], -math.inf
    for name, (seconds, bits) in sorted(ends.items(), key=lambda one: y.at(one[1][1])):
        place = max(y.at(bits) + 4, free)
        free = place + LABEL_GAP
        shown = f"{NAMES.get(name, name)} {bits:.3f}"
        parts.append(_text(x.at(seconds) + 8, place, shown, f"label {name}"))
    return parts


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    name = f' class="{kind}"' if kind else ""
    return f'<text{name} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _mean(curves: Sequence[Sequence[Point]]) -> list[Point]:
    """Point by point: runs of one optimizer are looked at after the same steps."""
    return [
        (mean(seconds for seconds, _ in points), mean(bits for _, bits in points))
        for points in zip(*curves, strict=False)
    ]


def _round_step(rough: float) -> float:
    """1, 2 or 5 times a power of ten, at least ``rough``."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)


def _number(value: float, scale: Axis) -> str:
    step = scale.ticks[1] - scale.ticks[0] if len(scale.ticks) > 1 else scale.high - scale.low
    return f"{value:.{max(0, -math.floor(math.log10(step) + 1e-9))}f}"
