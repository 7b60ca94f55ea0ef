"""The language-modelling loss, over labelled positions only and without a full logits tensor."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

# 256 rows of 49,152 logits in float32 are 50 MB.
CHUNK_ROWS = 256
UNLABELLED = -100


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Sum of the cross-entropies of ``hidden @ weight.T``, some rows at a time.

    The gradient of the hidden states is computed in the forward pass, while the logits are there,
    so that neither pass ever holds more than a chunk of them. The weight is frozen.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor, row_weights: Tensor
    ) -> Tensor:
        total = hidden.new_zeros((), dtype=torch.float32)
        gradient = torch.empty_like(hidden)
        for start in range(0, hidden.shape[0], CHUNK_ROWS):
            rows = slice(start, start + CHUNK_ROWS)
            target, scale = labels[rows, None], row_weights[rows, None]
            logits = (hidden[rows] @ weight.T).float()  # (C, V)
            normalizer = torch.logsumexp(logits, dim=-1, keepdim=True)  # (C, 1)
            total += ((normalizer - logits.gather(1, target)) * scale).sum()
            # Gradient of the cross-entropy: softmax minus the one-hot label.
            probability = logits.sub_(normalizer).exp_()
            probability.scatter_add_(1, target, torch.full_like(normalizer, -1.0))
            gradient[rows] = probability.mul_(scale).to(hidden.dtype) @ weight
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * outer[0].to(gradient.dtype), None, None, None


def loss_sum(hidden: Tensor, head: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Sum of -log p of the labels, in nats.

    Args:
        hidden: Last hidden states, (B, T, d).
        head: The frozen output weight, (V, d).
        labels: Ids, (B, T); ``UNLABELLED`` where there is none. Not shifted: position t is judged
            by ``labels[:, t + 1]``.
        weights: Of each label, (B, T); 1 without.
    """
    wanted = labels[:, 1:]
    chosen = wanted != UNLABELLED
    rows, targets = hidden[:, :-1][chosen], wanted[chosen]
    scale = torch.ones_like(targets, dtype=torch.float32)
    if weights is not None:
        scale = weights[:, 1:][chosen].float()
    total: Tensor = _ChunkedCrossEntropy.apply(rows, head, targets, scale)  # type: ignore[no-untyped-call]
    return total


@torch.no_grad()
def sample_labels(
    hidden: Tensor, head: Tensor, labels: Tensor, generator: torch.Generator
) -> Tensor:
    """Labels drawn from the model's own distribution at the labelled positions (GNB).

    Same shapes as ``loss_sum``; the result is like ``labels``.
    """
    sampled = torch.full_like(labels, UNLABELLED)
    chosen = labels[:, 1:] != UNLABELLED
    rows = hidden[:, :-1][chosen]
    drawn = torch.empty(rows.shape[0], dtype=labels.dtype, device=labels.device)
    for start in range(0, rows.shape[0], CHUNK_ROWS):
        logits = (rows[start : start + CHUNK_ROWS] @ head.T).float()
        probability = functional.softmax(logits, dim=-1)
        picked = torch.multinomial(probability, 1, generator=generator)
        drawn[start : start + CHUNK_ROWS] = picked[:, 0]
    sampled[:, 1:][chosen] = drawn
    return sampled
