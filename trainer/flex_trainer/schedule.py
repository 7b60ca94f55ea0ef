"""The learning rate over a run."""

import math

WARMUP_SHARE = 0.06
FLOOR = 0.02


def rate(step: int, steps: int) -> float:
    """The share of the peak rate at ``step`` of ``steps``: linear warm-up, then a cosine to 2 %."""
    warmup = max(1, math.ceil(WARMUP_SHARE * steps))
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
