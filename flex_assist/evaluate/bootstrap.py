"""Intervals by resampling."""

from collections.abc import Hashable, Sequence

import numpy as np

RESAMPLES = 2000
# Below so many files the units themselves are resampled: a few files have no spread.
LEAST_FILES = 5
Interval = tuple[float, float]


def ratio_difference_ci95(
    before: Sequence[float], after: Sequence[float], sizes: Sequence[float], seed: int = 0
) -> tuple[float, float]:
    """A 95 % percentile interval of ``sum(after)/sum(sizes) - sum(before)/sum(sizes)``.

    Args:
        before: One total a unit (a file), e.g. bits.
        after: The same units after the change: the resampling is paired.
        sizes: What the totals are divided by, e.g. bytes of each file.

    Returns:
        Lower and upper end; both equal the difference where there is one unit only.
    """
    rng = np.random.default_rng(seed)
    draws = rng.integers(0, len(sizes), size=(RESAMPLES, len(sizes)))
    change = np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64)
    weight = np.asarray(sizes, dtype=np.float64)
    values = change[draws].sum(axis=1) / weight[draws].sum(axis=1)
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)


def by_file_ci95(
    before: Sequence[float],
    after: Sequence[float],
    sizes: Sequence[float],
    files: Sequence[Hashable],
    seed: int = 0,
) -> Interval:
    """The same with units that are parts of files: those of a file are resampled together.

    Args:
        files: Which file each unit is of; fewer than ``LEAST_FILES`` files count as none.
    """
    keys = files if len(set(files)) >= LEAST_FILES else range(len(files))
    sums: dict[Hashable, list[float]] = {}
    for key, *values in zip(keys, before, after, sizes, strict=True):
        held = sums.setdefault(key, [0.0, 0.0, 0.0])
        sums[key] = [one + value for one, value in zip(held, values, strict=True)]
    befores, afters, totals = zip(*sums.values(), strict=True)
    return ratio_difference_ci95(befores, afters, totals, seed)
