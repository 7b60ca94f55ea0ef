"""Activations computed again in the backward pass instead of being kept.

Source: Chen et al., "Training Deep Nets with Sublinear Memory Cost", arXiv 1604.06174.
"""

import functools

from torch import nn
from torch.utils.checkpoint import checkpoint


def recompute_layers(layers: nn.ModuleList, wanted: bool) -> None:
    """Keep only the inputs of each layer, or everything again.

    Not through transformers' own switch: that one works in training mode only.
    """
    for layer in layers:
        vars(layer).pop("forward", None)
        if wanted:
            layer.forward = functools.partial(
                checkpoint, layer.forward, use_reentrant=False, preserve_rng_state=False
            )
