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


def test_sampled_labels_follow_the_model():
    hidden = torch.zeros(1, 2001, 2)
    head = torch.zeros(3, 2)
    head[2, 0], hidden[..., 0] = 2.0, 1.0
    labels = torch.zeros(1, 2001, dtype=torch.long)
    generator = torch.Generator().manual_seed(0)
    drawn = losses.sample_labels(hidden, head, labels, generator)[0, 1:]
    share = float((drawn == 2).float().mean())
    expected = float(torch.softmax(torch.tensor([0.0, 0.0, 2.0]), 0)[2])
    assert share == pytest.approx(expected, abs=0.04)


def test_nothing_is_sampled_where_there_is_no_label():
    hidden, head, labels, _ = example()
    drawn = losses.sample_labels(hidden.detach(), head, labels, torch.Generator().manual_seed(0))
    assert torch.equal(drawn[:, 1:] == losses.UNLABELLED, labels[:, 1:] == losses.UNLABELLED)
