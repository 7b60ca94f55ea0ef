"""The language-modelling loss, over labelled positions only and without a full logits tensor."""

from typing import Any

import torch
from torch import Tensor

from flex_trainer.corpus import UNLABELLED

# 128 rows of 49,152 logits in float32 are 25 MB.
CHUNK_ROWS = 128
# Labels are drawn in two stages: a block of the vocabulary, then an id in it.
DRAW_BLOCK = 256


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Sum of the cross-entropies of ``hidden @ weight.T``, some rows at a time.

    The gradient of the hidden states is computed in the forward pass, while the probabilities are
    there, so that neither pass ever holds more than a chunk of them; not where none is asked for.
    The weight is frozen.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        labels: Tensor,
        row_weights: Tensor,
        draws: Tensor | None,
    ) -> Tensor:
        total = hidden.new_zeros((), dtype=torch.float32)
        gradient = torch.empty_like(hidden)
        for start in range(0, hidden.shape[0], CHUNK_ROWS):
            rows = slice(start, start + CHUNK_ROWS)
            scale = row_weights[rows, None]
            # One pass of vector code; exp() and logsumexp() cost ten times as much where values
            # underflow.
            probability = torch.softmax(hidden[rows] @ weight.T, -1, dtype=torch.float32)  # (C, V)
            target = labels[rows] if draws is None else draw(probability, draws[rows])
            target = target[:, None]
            likely = probability.gather(1, target).clamp_min_(torch.finfo(torch.float32).tiny)
            total -= (likely.log_() * scale).sum()
            if not ctx.needs_input_grad[0]:
                continue
            # Gradient of the cross-entropy: softmax minus the one-hot label.
            probability.scatter_add_(1, target, torch.full_like(scale, -1.0))
            gradient[rows] = (probability.to(hidden.dtype) @ weight) * scale
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * outer[0].to(gradient.dtype), None, None, None, None


def loss_sum(
    hidden: Tensor,
    head: Tensor,
    labels: Tensor,
    weights: Tensor | None = None,
    draws: Tensor | None = None,
) -> Tensor:
    """Sum of -log p of the labels, in nats.

    Args:
        hidden: Last hidden states, (B, T, d).
        head: The frozen output weight, (V, d).
        labels: Ids, (B, T); ``UNLABELLED`` where there is none. Not shifted: position t is judged
            by ``labels[:, t + 1]``.
        weights: Of each label, (B, T); 1 without.
        draws: Numbers in [0, 1), (B, T): each label is replaced by the one that its number picks
            from the model's own distribution (Gauss-Newton-Bartlett).
    """
    wanted = labels[:, 1:]
    chosen = wanted != UNLABELLED
    rows, targets = hidden[:, :-1][chosen], wanted[chosen]
    scale = torch.ones_like(targets, dtype=torch.float32)
    if weights is not None:
        scale = weights[:, 1:][chosen].float()
    picks = draws[:, 1:][chosen] if draws is not None else None
    total: Tensor = _ChunkedCrossEntropy.apply(rows, head, targets, scale, picks)  # type: ignore[no-untyped-call]
    return total


def draw(probability: Tensor, uniform: Tensor) -> Tensor:
    """An index of each row by its probabilities, (C, V) to (C,).

    By the inverse of the cumulated sum, in two stages, so that only V / ``DRAW_BLOCK`` +
    ``DRAW_BLOCK`` numbers of a row are cumulated.

    Args:
        uniform: Numbers in [0, 1) that decide, (C,).
    """
    rows, size = probability.shape
    block = DRAW_BLOCK if size % DRAW_BLOCK == 0 else size
    blocks = probability.view(rows, -1, block)  # (C, V / S, S)
    first, left = _invert(blocks.sum(-1), uniform[:, None])
    inside = blocks[torch.arange(rows, device=probability.device), first]
    second, _ = _invert(inside, left / inside.sum(-1, keepdim=True).clamp_min_(1e-30))
    return first * block + second


def _invert(weights: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Where the cumulated weights pass ``uniform`` of their sum, and how far into that weight."""
    cumulated = weights.cumsum(-1)
    wanted = uniform * cumulated[:, -1:]
    found = torch.searchsorted(cumulated, wanted, right=True).clamp_max_(weights.shape[1] - 1)
    before = (cumulated - weights).gather(1, found)
    return found[:, 0], (wanted - before).clamp_min_(0.0)
