"""Intervals by resampling."""

from collections.abc import Sequence

import numpy as np

RESAMPLES = 2000


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
