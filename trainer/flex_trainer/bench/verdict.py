"""One honest sentence about two optimizers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev

# Two-sided 95 % quantiles of Student's t for 1, 2, .. degrees of freedom.
STUDENT_T = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
)  # fmt: skip
NORMAL = 1.96
NAMES = {"sophia": "Sophia", "adamw": "AdamW"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Sophia's bits per byte less AdamW's, by seed.

    Attributes:
        ci95: None for a single seed.
    """

    mean: float
    ci95: tuple[float, float] | None


def paired(differences: Sequence[float]) -> Difference:
    """Mean and 95 % interval by Student's t."""
    count, centre = len(differences), mean(differences)
    if count < 2:
        return Difference(mean=centre, ci95=None)
    quantile = STUDENT_T[count - 2] if count - 2 < len(STUDENT_T) else NORMAL
    half = quantile * stdev(differences) / math.sqrt(count)
    return Difference(mean=centre, ci95=(centre - half, centre + half))


def sentence(
    found: Difference, seeds: int, seconds: Mapping[str, float], edges: Sequence[str] = ()
) -> str:
    """What can be said.

    Args:
        seconds: Of training, by optimizer, on average.
        edges: Optimizers whose best rate was the lowest or highest of those tried.
    """
    less = "below" if found.mean < 0 else "above"
    said = (
        f"After {seconds['sophia']:.1f} s of training Sophia ends {abs(found.mean):.4f} bits per "
        f"byte {less} AdamW after {seconds['adamw']:.1f} s"
    )
    if found.ci95 is None:
        said += " with one seed, which says nothing about the next: more --seeds are needed"
    else:
        low, high = found.ci95
        said += (
            f" (mean of {seeds} seeds, 95 % interval of the paired difference "
            f"[{low:+.4f}, {high:+.4f}]): {_judged(low, high)}"
        )
    if edges:
        names = " and ".join(NAMES.get(name, name) for name in edges)
        said += (
            f"; the best rate of {names} was the last of those tried: a better one may lie beyond"
        )
    return said + "."


def _judged(low: float, high: float) -> str:
    if high < 0:
        return "Sophia is better here"
    if low > 0:
        return "AdamW is better here"
    return "these runs cannot tell them apart"
