"""Penalties on the update's spectrum.

An update is D = s B A with B (m, r), A (r, n), s = alpha / r. Let F be the unitary DFT matrix. The
2-D spectrum of D is s (F B)(A F^T), so its energy under a separable mask u_k v_l needs r x r Gram
matrices only:

    G_B(u) = (F B)^H diag(u) (F B)          G_A(v) = (A F^T) diag(v) (A F^T)^H
    energy = s^2 tr(G_B(u) G_A(v))          (real for masks with u_k = u_{m-k})

``spectral`` penalizes everything outside the block of low frequencies:

    E = s^2 tr(B^T B  A A^T)                                     |D|^2
    R = ( E - s^2 tr(G_B(low) G_A(low)) ) / ( E + eps |W0|^2 )    in [0, 1]

The denominator takes part in the gradient, so that R asks for another shape and not for a smaller
update: with it held fixed the gradient grows as the update shrinks, and the update collapses (see
docs/log.md).

A real signal's spectrum is symmetric: ``rfft`` gives half of it, and each bin counts twice but for
DC and, at even length, Nyquist. Cost: O(r (m log m + n log n)) a module, once an optimizer step.

Source: FLeX, arXiv 2604.06253, for the idea and for the mode ``paper``, its literal form, here with
the gradient that it needs to act. ``l2`` and ``permuted`` are controls: the same strength on the
plain norm, and the same penalty with rows and columns in a fixed random order.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

LOW_BAND = 0.25
EPSILON = 1e-8
PAPER_START, PAPER_END = 1.0, 0.1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Update:
    """A module's update, or several of one shape stacked: (...) stands for nothing or their number.

    Attributes:
        a: A, shape (..., r, n).
        b: B, shape (..., m, r).
        scale: s.
        base_norm2: |W0|^2, shape (...).
        row_order: Fixed random orders for the control ``permuted``: (..., m) and (..., n) indices.
        second_moment: For ``activation``: a factor F (..., n, q) with F F^T the second moment of
            the module's inputs on other languages' code.
    """

    a: Tensor
    b: Tensor
    scale: float
    base_norm2: Tensor
    row_order: Tensor | None = None
    column_order: Tensor | None = None
    second_moment: Tensor | None = None


def band_weights(length: int, low: float, device: torch.device | None = None) -> Tensor:
    """Weights of the ``rfft`` bins that make the energy of the low band, shape (length//2 + 1,)."""
    bins = length // 2 + 1
    index = torch.arange(bins, device=device)
    weights = torch.full((bins,), 2.0, device=device)
    weights[0] = 1.0
    if length % 2 == 0:
        weights[-1] = 1.0
    return torch.where(index <= low * (length / 2), weights, 0.0)


def gram(rows: Tensor, weights: Tensor) -> Tensor:
    """G(u) for the rows of a real matrix (..., r, length): shape (..., r, r), symmetric."""
    spectrum = torch.view_as_real(torch.fft.rfft(rows.float(), norm="ortho"))
    kept = int((weights > 0).sum())
    # (..., r, bins, 2): the real part of the Gram matrix is all that a symmetric mask leaves.
    weighted = (spectrum[..., :kept, :] * weights[:kept, None].sqrt()).flatten(-2)
    return weighted @ weighted.mT


def energy(update: Update) -> Tensor:
    """|D|^2 in the Frobenius norm, without forming D. Shape (...)."""
    a, b = update.a.float(), update.b.float()
    return update.scale**2 * torch.sum((b.mT @ b) * (a @ a.mT), dim=(-2, -1))


def low_energy(update: Update, low: float = LOW_BAND) -> Tensor:
    """Energy of D in the block of low frequencies. Shape (...)."""
    a, b = update.a.float(), update.b.float().mT
    if update.row_order is not None and update.column_order is not None:
        b = b.gather(-1, update.row_order.unsqueeze(-2).expand_as(b))
        a = a.gather(-1, update.column_order.unsqueeze(-2).expand_as(a))
    gram_b = gram(b, band_weights(b.shape[-1], low, b.device))
    gram_a = gram(a, band_weights(a.shape[-1], low, a.device))
    return update.scale**2 * torch.sum(gram_b * gram_a, dim=(-2, -1))


def spectral_ratio(update: Update, low: float = LOW_BAND) -> Tensor:
    """R: the share of the update's energy that is not low, in [0, 1]; 0 at B = 0."""
    whole = energy(update)
    high = (whole - low_energy(update, low)).clamp_min(0.0)
    return high / (whole + EPSILON * update.base_norm2)


def l2_ratio(update: Update) -> Tensor:
    """The control: the whole energy over its own value. Its value is 1, its gradient shrinks D."""
    whole = energy(update)
    return whole / (whole.detach() + EPSILON * update.base_norm2)


def activation_ratio(update: Update) -> Tensor:
    """E|D x|^2 on other languages' inputs, over the same for inputs that have no direction."""
    if update.second_moment is None:
        raise ValueError("the activation penalty needs the second moment of the inputs")
    a, b, factor = update.a.float(), update.b.float(), update.second_moment.float()
    projected = a @ factor
    seen = torch.sum((b.mT @ b) * (projected @ projected.mT), dim=(-2, -1))
    even = energy(update) * factor.square().sum(dim=(-2, -1)) / factor.shape[-2]
    return update.scale**2 * seen / (even + EPSILON * update.base_norm2)


def paper_penalty(update: Update) -> Tensor:
    """The paper's literal form: 1-D spectra of the flattened factors, high frequencies weighted."""
    total = torch.zeros((), device=update.a.device)
    for factor in (update.a, update.b):
        spectrum = torch.view_as_real(torch.fft.rfft(factor.float().flatten(-2), norm="ortho"))
        bins = spectrum.shape[-2]
        ramp = torch.full((bins,), PAPER_END, device=factor.device)
        half = max(1, bins // 2)
        ramp[:half] = torch.linspace(PAPER_START, PAPER_END, half, device=factor.device)
        total = total + torch.sum((1.0 - ramp) * spectrum.square().sum(-1), dim=-1)
    return total


MODES = {
    "spectral": spectral_ratio,
    "permuted": spectral_ratio,
    "l2": l2_ratio,
    "activation": activation_ratio,
    "paper": paper_penalty,
}


def penalty(updates: Sequence[Update], mode: str) -> Tensor:
    """The mean of the mode's value over the modules, differentiable in A and B.

    Modules of one shape are computed at once.
    """
    groups: dict[tuple[torch.Size, torch.Size], list[Update]] = {}
    for update in updates:
        groups.setdefault((update.a.shape, update.b.shape), []).append(update)
    values = [MODES[mode](_stacked(group)).flatten() for group in groups.values()]
    return torch.cat(values).mean()


def _stacked(group: Sequence[Update]) -> Update:
    def stack(tensors: Sequence[Tensor | None]) -> Tensor | None:
        present = [tensor for tensor in tensors if tensor is not None]
        return torch.stack(present) if present else None

    return Update(
        a=torch.stack([update.a for update in group]),
        b=torch.stack([update.b for update in group]),
        scale=group[0].scale,
        base_norm2=torch.stack([update.base_norm2 for update in group]),
        row_order=stack([update.row_order for update in group]),
        column_order=stack([update.column_order for update in group]),
        second_moment=stack([update.second_moment for update in group]),
    )


class Strength:
    """Chooses lambda so that the penalty's gradient is a fixed share of the loss's.

    Args:
        share: |lambda grad penalty| / |grad loss| aimed at.
        inertia: How slowly lambda follows, 0 to 1.
    """

    def __init__(self, share: float = 0.1, inertia: float = 0.9) -> None:
        self.share, self.inertia, self.value = share, inertia, 0.0

    def update(self, loss_gradient_norm: float, penalty_gradient_norm: float) -> float:
        """Follow the norms of this step; gives the new lambda."""
        if penalty_gradient_norm > 0 and math.isfinite(loss_gradient_norm):
            aimed = self.share * loss_gradient_norm / penalty_gradient_norm
            first = self.value == 0.0
            mixed = self.inertia * self.value + (1 - self.inertia) * aimed
            self.value = aimed if first else mixed
        return self.value
