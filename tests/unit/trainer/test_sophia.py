"""Sophia against two independent implementations, and what its mathematics promises."""

import pytest
import torch

from flex_trainer.sophia import SophiaG

LABELS = 64
STEPS = 25
HESSIAN_EVERY = 5


def problem(seed: int = 0) -> tuple[list[torch.Tensor], list[list[torch.Tensor]]]:
    """Start values and the gradients of each step, the same for every optimizer."""
    generator = torch.Generator().manual_seed(seed)
    start = [torch.randn(size, generator=generator) for size in ((7, 3), (5,))]
    gradients = [
        [torch.randn(value.shape, generator=generator) * 0.1 for value in start]
        for _ in range(2 * STEPS)
    ]
    return start, gradients


def parameters(start: list[torch.Tensor]) -> list[torch.Tensor]:
    return [value.clone().requires_grad_() for value in start]


def set_gradients(values: list[torch.Tensor], gradients: list[torch.Tensor]) -> None:
    for value, gradient in zip(values, gradients, strict=True):
        value.grad = gradient.clone()


def test_equals_the_packaged_reference():
    sophia_opt = pytest.importorskip("sophia_opt")
    start, gradients = problem()
    settings = {"lr": 3e-3, "betas": (0.9, 0.95), "rho": 0.05, "weight_decay": 0.1}
    ours, theirs = parameters(start), parameters(start)
    mine = SophiaG(ours, **settings, bias_correction=False)
    reference = sophia_opt.SophiaG(theirs, **settings)
    for step in range(STEPS):
        for values, optimizer in ((ours, mine), (theirs, reference)):
            if step % HESSIAN_EVERY == 0:
                set_gradients(values, gradients[STEPS + step])
                optimizer.update_hessian()
            set_gradients(values, gradients[step])
        mine.step(labels=LABELS)
        reference.step(bs=LABELS)
        for left, right in zip(ours, theirs, strict=True):
            torch.testing.assert_close(left, right, rtol=1e-6, atol=1e-7)


@pytest.mark.filterwarnings("ignore")
def test_equals_sophia_h_with_our_hessian():
    """SophiaH's form: p = rho, rate lr / rho, decay wd * rho, hessian = B g^2."""
    pytorch_optimizer = pytest.importorskip("pytorch_optimizer")
    start, gradients = problem(1)
    rho, lr, decay = 0.05, 2e-3, 0.1
    ours, theirs = parameters(start), parameters(start)
    mine = SophiaG(
        ours, lr=lr, betas=(0.9, 0.95), rho=rho, weight_decay=decay, bias_correction=False
    )
    other = pytorch_optimizer.SophiaH(
        theirs,
        lr=lr / rho,
        betas=(0.9, 0.95),
        p=rho,
        weight_decay=decay * rho,
        update_period=HESSIAN_EVERY,
        eps=1e-15,
    )
    for step in range(STEPS):
        estimate = gradients[STEPS + step]
        external = None
        if step % HESSIAN_EVERY == 0:
            set_gradients(ours, estimate)
            mine.update_hessian()
            external = [LABELS * gradient**2 for gradient in estimate]
        set_gradients(ours, gradients[step])
        set_gradients(theirs, gradients[step])
        mine.step(labels=LABELS)
        other.step(hessian=external)
        for left, right in zip(ours, theirs, strict=True):
            torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-6)


def run(seed: int) -> list[torch.Tensor]:
    start, gradients = problem(seed)
    values = parameters(start)
    optimizer = SophiaG(values, lr=1e-2)
    for step in range(STEPS):
        if step % HESSIAN_EVERY == 0:
            set_gradients(values, gradients[STEPS + step])
            optimizer.update_hessian()
        set_gradients(values, gradients[step])
        optimizer.step(labels=LABELS)
    return values


def test_is_deterministic():
    for left, right in zip(run(3), run(3), strict=True):
        assert torch.equal(left, right)


def test_converges_on_a_badly_scaled_bowl():
    """Curvatures from 1 to 10,000: the Hessian evens them out."""
    curvature = torch.logspace(0, 4, 20)
    value = torch.ones(20, requires_grad=True)
    optimizer = SophiaG([value], lr=0.05, betas=(0.9, 0.95), rho=1.0, eps=1e-12)
    for step in range(300):
        for group in optimizer.param_groups:
            group["lr"] = 0.05 * (1 - step / 300)
        if step % 10 == 0:
            value.grad = curvature.sqrt()
            optimizer.update_hessian()
        value.grad = curvature * value.detach()
        optimizer.step(labels=1)
    assert 0.5 * float((curvature * value.detach() ** 2).sum()) < 1e-3


def test_no_entry_moves_further_than_the_rate():
    start, _ = problem()
    values = parameters(start)
    optimizer = SophiaG(values, lr=0.01)
    before = [value.detach().clone() for value in values]
    set_gradients(values, [torch.full_like(value, 1e6) for value in values])
    optimizer.update_hessian()
    set_gradients(values, [torch.randn_like(value) * 1e6 for value in values])
    optimizer.step(labels=1)
    for old, new in zip(before, values, strict=True):
        assert (new - old).abs().max().item() <= 0.01 * (1 + 1e-5)


def test_the_step_does_not_depend_on_the_scale_of_the_loss_where_it_is_clipped():
    moved = []
    for scale in (1.0, 1000.0):
        value = torch.ones(4, requires_grad=True)
        optimizer = SophiaG([value], lr=0.1)
        value.grad = torch.tensor([1.0, -2.0, 3.0, -4.0]) * scale
        optimizer.step(labels=1)
        moved.append(value.detach().clone())
    torch.testing.assert_close(moved[0], moved[1])


def test_bias_correction_makes_the_first_estimate_count_in_full():
    value = torch.zeros(3, requires_grad=True)
    optimizer = SophiaG([value], lr=1.0, betas=(0.0, 0.99), rho=1.0)
    value.grad = torch.full((3,), 2.0)
    optimizer.update_hessian()
    value.grad = torch.full((3,), 1.0)
    optimizer.step(labels=1)
    # |m| / (rho h) with h = 4, not 4 * (1 - 0.99).
    torch.testing.assert_close(value.detach(), torch.full((3,), -0.25))


def test_reports_the_unclipped_share():
    value = torch.zeros(4, requires_grad=True)
    optimizer = SophiaG([value], lr=0.1, betas=(0.0, 0.9), rho=1.0)
    value.grad = torch.tensor([1.0, 1.0, 0.0, 0.0])
    optimizer.update_hessian()
    value.grad = torch.full((4,), 0.5)
    optimizer.step(labels=1)
    # Asked for between two steps, when gradients are cleared.
    value.grad = None
    assert optimizer.unclipped_share(labels=1) == 0.5


@pytest.mark.parametrize("wrong", [{"lr": -1.0}, {"rho": 0.0}, {"betas": (1.0, 0.9)}])
def test_refuses_impossible_hyper_parameters(wrong):
    with pytest.raises(ValueError, match="impossible"):
        SophiaG([torch.zeros(1, requires_grad=True)], **wrong)
