"""Frozen linear layers in 4 bits, unpacked one at a time where they are used.

Source: Dettmers et al., "QLoRA", arXiv 2305.14314: blocks of 64 weights, each weight the nearest of
16 quantiles of the normal distribution, the blocks' scales in 8 bits. Packing and unpacking are
those of bitsandbytes, which is an extra.
"""

import importlib.util

from torch import Tensor, nn
from torch.nn import functional


def available() -> bool:
    """Whether bitsandbytes is installed."""
    return importlib.util.find_spec("bitsandbytes") is not None


class Nf4Linear(nn.Linear):
    """A frozen linear layer, (..., n) to (..., m), that holds half a byte for each weight.

    ``weight`` are the packed bytes. They stay on the device on which they were packed: the scales
    beside them are no buffers.

    Args:
        weight: (m, n), in the precision to compute in; on the device to compute on.
    """

    def __init__(self, weight: Tensor) -> None:
        from bitsandbytes.functional import quantize_4bit

        rows, columns = weight.shape
        super().__init__(columns, rows, bias=False, device="meta")
        packed, self._scales = quantize_4bit(weight, compress_statistics=True, quant_type="nf4")
        self.weight = nn.Parameter(packed, requires_grad=False)

    def unpacked(self) -> Tensor:
        """The weight as it is computed with, (m, n): made anew each time."""
        from bitsandbytes.functional import dequantize_4bit

        weight: Tensor = dequantize_4bit(self.weight, self._scales)
        return weight

    def forward(self, x: Tensor) -> Tensor:
        """(..., n) to (..., m)."""
        return functional.linear(x, self.unpacked(), self.bias)
