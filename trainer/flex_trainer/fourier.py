"""Penalties on the update's spectrum.

An update is D = s B A with B (m, r), A (r, n), s = alpha / r. Let F be the unitary DFT matrix. The
2-D spectrum of D is s (F B)(A F^T), so its energy under a separable mask u_k v_l needs r x r Gram
matrices only:

    G_B(u) = (F B)^H diag(u) (F B)          G_A(v) = (A F^T) diag(v) (A F^T)^H
    energy = s^2 tr(G_B(u) G_A(v))          (real for masks with u_k = u_{m-k})

``spectral`` penalizes everything outside the block of low frequencies:

    P = s^2 [ tr(B^T B  A A^T) - tr(G_B(low) G_A(low)) ]
    R = P / ( stopgrad(s^2 tr(B^T B  A A^T)) + eps |W0|^2 )      in [0, 1]

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
    """One module's update, and what the penalties need to know of the module.

    Attributes:
        a: A, shape (r, n).
        b: B, shape (m, r).
        scale: s.
        base_norm2: |W0|^2.
        row_order: Fixed random orders for the control ``permuted``: m and n indices.
        second_moment: For ``activation``: a factor S_f (n, q) with S = S_f S_f^T the second
            moment of the module's inputs on other languages' code.
    """

    a: Tensor
    b: Tensor
    scale: float
    base_norm2: float
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


def gram(columns: Tensor, weights: Tensor) -> Tensor:
    """G(u) for the columns of a real matrix (length, r): shape (r, r), symmetric."""
    spectrum = torch.fft.rfft(columns.float(), dim=0, norm="ortho")
    # The real part is all that a symmetric mask leaves.
    real, imaginary = spectrum.real, spectrum.imag
    weighted = weights[:, None]
    return real.T @ (weighted * real) + imaginary.T @ (weighted * imaginary)


def energy(update: Update) -> Tensor:
    """|D|^2 in the Frobenius norm, without forming D."""
    a, b = update.a.float(), update.b.float()
    return update.scale**2 * torch.sum((b.T @ b) * (a @ a.T))


def low_energy(update: Update, low: float = LOW_BAND) -> Tensor:
    """Energy of D in the block of low frequencies."""
    a, b = update.a.float().T, update.b.float()
    if update.row_order is not None and update.column_order is not None:
        b, a = b[update.row_order], a[update.column_order]
    gram_b = gram(b, band_weights(b.shape[0], low, b.device))
    gram_a = gram(a, band_weights(a.shape[0], low, a.device))
    return update.scale**2 * torch.sum(gram_b * gram_a)


def spectral_ratio(update: Update, low: float = LOW_BAND) -> Tensor:
    """R: the share of the update's energy that is not low, in [0, 1]; 0 at B = 0."""
    whole = energy(update)
    high = (whole - low_energy(update, low)).clamp_min(0.0)
    return high / (whole.detach() + EPSILON * update.base_norm2)


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
    seen = update.scale**2 * torch.sum((b.T @ b) * (projected @ projected.T))
    even = energy(update).detach() * factor.square().sum() / factor.shape[0]
    return seen / (even + EPSILON * update.base_norm2)


def paper_penalty(update: Update) -> Tensor:
    """The paper's literal form: 1-D spectra of the flattened factors, high frequencies weighted."""
    total = torch.zeros((), device=update.a.device)
    for factor in (update.a, update.b):
        spectrum = torch.fft.rfft(factor.float().flatten(), norm="ortho")
        ramp = torch.full((spectrum.shape[0],), PAPER_END, device=factor.device)
        half = max(1, spectrum.shape[0] // 2)
        ramp[:half] = torch.linspace(PAPER_START, PAPER_END, half, device=factor.device)
        power = spectrum.real.square() + spectrum.imag.square()
        total = total + torch.sum((1.0 - ramp) * power)
    return total


MODES = {
    "spectral": spectral_ratio,
    "permuted": spectral_ratio,
    "l2": l2_ratio,
    "activation": activation_ratio,
    "paper": paper_penalty,
}


def penalty(updates: Sequence[Update], mode: str) -> Tensor:
    """The mean of the mode's value over the modules, differentiable in A and B."""
    values = torch.stack([MODES[mode](update) for update in updates])
    return values.mean()


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
