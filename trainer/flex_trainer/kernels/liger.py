"""Normalization and the gated layer as one GPU kernel each: Liger's, which is an extra.

Source: Hsu et al., "Liger Kernel: Efficient Triton Kernels for LLM Training", arXiv 2410.10989.
"""

import importlib.util

import torch
from torch import Tensor

from flex_trainer.kernels.layers import GatedMlp, RmsNorm


def usable(device: torch.device) -> bool:
    """Whether Liger is installed and the device is one that it has kernels for."""
    return device.type == "cuda" and importlib.util.find_spec("liger_kernel") is not None


class LigerRmsNorm(RmsNorm):
    """``RmsNorm`` in one kernel, forward and backward."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., d) to (..., d)."""
        from liger_kernel.ops.rms_norm import LigerRMSNormFunction

        # No offset; x normalized in float32, as Llama has it; the gradient in memory of its own,
        # because the residual branch needs the one that comes in.
        y: Tensor = LigerRMSNormFunction.apply(x, self.weight, self.eps, 0.0, "llama", False)
        return y


class LigerGatedMlp(GatedMlp):
    """``GatedMlp`` with silu(gate) * up in one kernel, forward and backward."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., d) to (..., d)."""
        from liger_kernel.ops.swiglu import LigerSiLUMulFunction

        y: Tensor = self.down_proj(LigerSiLUMulFunction.apply(self.gate_proj(x), self.up_proj(x)))
        return y
