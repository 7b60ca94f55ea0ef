"""What the modules of a model see on other languages' code, for the activation penalty."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from flex_trainer import lora

WINDOWS = 8
WINDOW_TOKENS = 256
VECTORS = 64


def input_factors(model: Any, texts: Sequence[Sequence[int]], seed: int) -> dict[str, Tensor]:
    """A factor of each adapted module's second moment of inputs: S is about F F^T.

    Args:
        texts: Token ids of code in other languages.

    Returns:
        Module path to F, shape (n, ``VECTORS``): input vectors at random positions, over the
        square root of their number.
    """
    generator = torch.Generator().manual_seed(seed)
    windows = [list(ids[:WINDOW_TOKENS]) for ids in texts if len(ids) > 1][:WINDOWS]
    seen: dict[str, list[Tensor]] = {name: [] for name in lora.layers(model)}

    def keep(name: str) -> Any:
        def hook(module: Any, inputs: tuple[Tensor, ...]) -> None:
            seen[name].append(inputs[0].detach().flatten(0, -2).float())

        return hook

    handles = [
        layer.register_forward_pre_hook(keep(name)) for name, layer in lora.layers(model).items()
    ]
    core = model.get_base_model()
    try:
        with torch.no_grad():
            for window in windows:
                core.model(input_ids=torch.tensor([window], device=core.device))
    finally:
        for handle in handles:
            handle.remove()
    return {name: _factor(torch.cat(rows), generator) for name, rows in seen.items()}


def _factor(rows: Tensor, generator: torch.Generator) -> Tensor:
    chosen = torch.randperm(rows.shape[0], generator=generator)[:VECTORS].to(rows.device)
    factor: Tensor = rows[chosen].T.contiguous() / len(chosen) ** 0.5
    return factor
