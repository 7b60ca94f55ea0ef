"""Sophia with the Gauss-Newton-Bartlett estimate of the Hessian's diagonal.

Source: Liu, Li, Hall, Liang, Ma: "Sophia: A Scalable Stochastic Second-order Optimizer for
Language Model Pre-training", arXiv 2305.14342, algorithm 3, and the authors' reference code.

With parameter p, gradient g, rate lr, decay wd:

    p <- p (1 - lr wd)
    m <- b1 m + (1 - b1) g
    p <- p - lr sign(m) min(1, |m| / (rho B h + eps))

and every k steps, with g' the gradient of the loss on labels *sampled from the model itself*:

    h <- b2 h + (1 - b2) g'^2          B: number of labels behind g' (a mean loss)

Two changes for adapters. h is bias-corrected (h / (1 - b2^n) after n estimates): a run of some
hundred steps would otherwise never leave its warm-up. And a parameter without any curvature yet
(LoRA's A while B is zero) takes the clipped step, as min(1, |m| / eps) = 1 does in the reference.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class SophiaG(Optimizer):
    """SophiaG over float32 parameters.

    Args:
        params: Parameters or groups, as for any torch optimizer.
        lr: Largest change of a parameter in one step.
        betas: Decay of the mean gradient and of the Hessian estimate.
        rho: Clipping threshold; larger means more clipping-free, smaller steps.
        weight_decay: Decoupled weight decay.
        eps: Added to the denominator.
        bias_correction: Correct h for its start at zero. False is the reference's form.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 4e-4,
        betas: tuple[float, float] = (0.9, 0.95),
        rho: float = 0.04,
        weight_decay: float = 0.0,
        eps: float = 1e-15,
        bias_correction: bool = True,
    ) -> None:
        if lr < 0 or rho <= 0 or eps < 0 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"impossible hyper-parameters: lr={lr} betas={betas} rho={rho}")
        defaults = {
            "lr": lr,
            "betas": betas,
            "rho": rho,
            "weight_decay": weight_decay,
            "eps": eps,
            "bias_correction": bias_correction,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def update_hessian(self) -> None:
        """Take the gradients that stand in ``.grad`` as those of sampled labels."""
        for group in self.param_groups:
            beta = group["betas"][1]
            parameters, gradients = _with_gradient(group)
            if not parameters:
                continue
            hessians = [self._state(parameter)["hessian"] for parameter in parameters]
            torch._foreach_mul_(hessians, beta)
            torch._foreach_addcmul_(hessians, gradients, gradients, value=1 - beta)
            for parameter in parameters:
                self._state(parameter)["estimates"] += 1

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None, labels: int = 1) -> float | None:  # type: ignore[override]
        """One update from the gradients in ``.grad``.

        Args:
            closure: Recomputes the loss, as for any torch optimizer.
            labels: B, the number of labels behind each Hessian estimate.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            self._step_group(group, labels)
        return loss

    def unclipped_share(self, labels: int) -> float:
        """Share of entries whose next step would not be clipped. Healthy: 0.1 to 0.5."""
        free = total = 0
        for group in self.param_groups:
            # Whether a gradient stands there just now does not matter.
            for parameter in group["params"]:
                state = self._state(parameter)
                bound = self._denominator(group, state, labels)
                free += int((state["momentum"].abs() < bound).sum())
                total += parameter.numel()
        return free / total if total else 0.0

    def _step_group(self, group: dict[str, Any], labels: int) -> None:
        parameters, gradients = _with_gradient(group)
        if not parameters:
            return
        states = [self._state(parameter) for parameter in parameters]
        momenta = [state["momentum"] for state in states]
        lr, beta = group["lr"], group["betas"][0]
        if group["weight_decay"]:
            torch._foreach_mul_(parameters, 1 - lr * group["weight_decay"])
        torch._foreach_lerp_(momenta, gradients, 1 - beta)
        bounds = [self._denominator(group, state, labels) for state in states]
        ratios = torch._foreach_abs(momenta)
        torch._foreach_div_(ratios, bounds)
        torch._foreach_clamp_max_(ratios, 1.0)
        torch._foreach_mul_(ratios, torch._foreach_sign(momenta))
        torch._foreach_add_(parameters, ratios, alpha=-lr)

    def _denominator(self, group: dict[str, Any], state: dict[str, Any], labels: int) -> Tensor:
        scale = group["rho"] * labels
        if group["bias_correction"] and state["estimates"]:
            scale /= 1 - group["betas"][1] ** state["estimates"]
        hessian: Tensor = state["hessian"]
        return hessian.mul(scale).add_(group["eps"])

    def _state(self, parameter: Tensor) -> dict[str, Any]:
        state: dict[str, Any] = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter, dtype=torch.float32)
            state["hessian"] = torch.zeros_like(parameter, dtype=torch.float32)
            state["estimates"] = 0
        return state


def _with_gradient(group: dict[str, Any]) -> tuple[list[Tensor], list[Tensor]]:
    parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    return parameters, gradients
