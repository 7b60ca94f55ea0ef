"""The chunked loss against the plain one."""

import pytest
import torch
from torch.nn import functional

from flex_trainer import losses


def example(rows: int = 9) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(2, rows, 8, generator=generator).requires_grad_()
    head = torch.randn(30, 8, generator=generator)
    labels = torch.randint(0, 30, (2, rows), generator=generator)
    labels[0, 3:5] = losses.UNLABELLED
    weights = torch.rand(2, rows, generator=generator) + 0.5
    return hidden, head, labels, weights


def plain(hidden, head, labels, weights) -> torch.Tensor:
    logits = (hidden @ head.T)[:, :-1].flatten(0, 1)
    each = functional.cross_entropy(
        logits, labels[:, 1:].flatten(), ignore_index=losses.UNLABELLED, reduction="none"
    )
    return (each * weights[:, 1:].flatten()).sum()


@pytest.mark.parametrize("chunk", [1, 4, 256])
def test_value_and_gradient_equal_the_plain_loss(monkeypatch, chunk):
    monkeypatch.setattr(losses, "CHUNK_ROWS", chunk)
    hidden, head, labels, weights = example()
    ours = losses.loss_sum(hidden, head, labels, weights)
    (our_gradient,) = torch.autograd.grad(ours * 0.7, hidden)
    expected = plain(hidden, head, labels, weights)
    (gradient,) = torch.autograd.grad(expected * 0.7, hidden)
    torch.testing.assert_close(ours, expected)
    torch.testing.assert_close(our_gradient, gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("block", [2, 3, 4])
def test_drawn_labels_follow_the_model(monkeypatch, block):
    """In one stage (3 does not divide 4) and in two."""
    monkeypatch.setattr(losses, "DRAW_BLOCK", block)
    expected = torch.tensor([0.1, 0.0, 0.25, 0.65])
    uniform = torch.rand(20_000, generator=torch.Generator().manual_seed(0))
    drawn = losses.draw(expected.expand(20_000, 4), uniform)
    shares = torch.bincount(drawn, minlength=4) / 20_000
    torch.testing.assert_close(shares, expected, atol=0.012, rtol=0.0)
    assert shares[1] == 0


def test_with_draws_the_loss_is_that_of_drawn_labels(monkeypatch):
    hidden, head, labels, weights = example()
    picked = torch.arange((labels[:, 1:] != losses.UNLABELLED).sum()) % 30
    monkeypatch.setattr(losses, "draw", lambda probability, uniform: picked)
    ours = losses.loss_sum(hidden, head, labels, weights, torch.zeros(labels.shape))
    (our_gradient,) = torch.autograd.grad(ours, hidden)
    drawn = labels.clone()
    drawn[:, 1:][labels[:, 1:] != losses.UNLABELLED] = picked
    expected = plain(hidden, head, drawn, weights)
    (gradient,) = torch.autograd.grad(expected, hidden)
    torch.testing.assert_close(ours, expected)
    torch.testing.assert_close(our_gradient, gradient, rtol=1e-5, atol=1e-6)
