"""Tokens a second and peak memory of this process's training, counted alike for every arm."""

import time
from collections.abc import Sequence
from typing import Any

import torch

from flex_trainer import device
from flex_trainer.bench.arm import Measurement

# bfloat16 products a second without sparsity, from the makers' data sheets, by part of the name.
PEAK_FLOPS = {
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A10G": 70e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
}
# Of each weight and token: 2 forward, 2 for the gradient of what goes in; the weights are frozen.
FLOPS_PER_WEIGHT = 4


class Clock:
    """Marks the end of each update."""

    def __init__(self, place: torch.device) -> None:
        self._place = place
        self._ends: list[float] = []

    def mark(self) -> None:
        """An update is done."""
        if self._place.type == "cuda":
            torch.cuda.synchronize()
        self._ends.append(time.perf_counter())

    def measured(self, tokens: Sequence[int], model: Any) -> Measurement:
        """The figures.

        Args:
            tokens: Real tokens of each update. The first only warms up.
        """
        if len(self._ends) != len(tokens) or len(tokens) < 2:
            raise ValueError(f"{len(self._ends)} updates were timed, {len(tokens)} expected")
        seconds, counted = self._ends[-1] - self._ends[0], sum(tokens[1:])
        return Measurement(
            tokens_per_s=round(counted / seconds, 1),
            peak_memory_mb=device.peak_memory_mb(self._place),
            tokens=counted,
            seconds=round(seconds, 2),
            updates=len(tokens) - 1,
            model_flop_utilization=self._utilization(counted / seconds, model),
        )

    def _utilization(self, tokens_per_s: float, model: Any) -> float | None:
        if self._place.type != "cuda":
            return None
        weights = sum(parameter.numel() for parameter in model.parameters())
        return utilization(tokens_per_s, weights, torch.cuda.get_device_name())


def utilization(tokens_per_s: float, weights: int, name: str) -> float | None:
    """Share of the GPU's peak that the model's own products make; None for an unknown GPU."""
    peak = next((peak for part, peak in PEAK_FLOPS.items() if part in name), None)
    if peak is None:
        return None
    return round(FLOPS_PER_WEIGHT * weights * tokens_per_s / peak, 4)
