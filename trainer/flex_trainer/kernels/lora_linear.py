"""A linear layer with its low-rank update, as one operation.

    y = x W^T + b + s (x A^T) B^T

PEFT's own layer adds the update in three more passes over y and keeps what they need. Here the
update is accumulated by the matrix product itself, and only x and x A^T (r numbers a token) are
kept. W and b are frozen; where W is held in 4 bits, each pass unpacks it for itself.
"""

from typing import Any

import torch
from peft.tuners import lora
from torch import Tensor
from torch.nn import functional

from flex_trainer.kernels.nf4 import Nf4Linear


class LoraLinear(lora.Linear):  # type: ignore[misc]
    """PEFT's LoRA layer with one adapter, no dropout, and a gradient written by hand."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:  # noqa: D102
        if self.disable_adapters or self.merged or len(self.active_adapters) != 1:
            result: Tensor = super().forward(x, *args, **kwargs)
            return result
        name, base = self.active_adapters[0], self.base_layer
        y: Tensor = _LoraLinear.apply(
            x,
            base if isinstance(base, Nf4Linear) else None,
            base.weight,
            base.bias,
            self.lora_A[name].weight,
            self.lora_B[name].weight,
            self.scaling[name],
        )  # type: ignore[no-untyped-call]
        return y


class _LoraLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        packed: Nf4Linear | None,
        weight: Tensor,
        bias: Tensor | None,
        a: Tensor,
        b: Tensor,
        scale: float,
    ) -> Tensor:
        rows = x.flatten(0, -2)  # (N, n)
        inner = functional.linear(rows, a)  # (N, r)
        dense = weight if packed is None else packed.unpacked()
        y = functional.linear(rows, dense, bias)  # (N, m)
        y.addmm_(inner, b.T, alpha=scale)
        ctx.save_for_backward(x, weight, a, b, inner)
        ctx.packed, ctx.scale = packed, scale
        return y.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, a, b, inner = ctx.saved_tensors
        d_y = outer[0].flatten(0, -2)
        d_inner = (d_y @ b).mul_(ctx.scale)  # (N, r)
        d_b = (inner.T @ d_y).T.mul(ctx.scale)  # (m, r)
        d_a = d_inner.T @ x.flatten(0, -2)  # (r, n)
        d_x = None
        if ctx.needs_input_grad[0]:
            d_x = d_y @ (weight if ctx.packed is None else ctx.packed.unpacked())
            d_x.addmm_(d_inner, a)
            d_x = d_x.view(x.shape)
        return d_x, None, None, None, d_a, d_b, None
