"""The spectral penalty against dense transforms, finite differences and its own mathematics."""

import pytest
import torch

from flex_trainer import fourier
from flex_trainer.fourier import Update

SHAPES = [(12, 16, 3), (15, 16, 4), (13, 9, 2), (32, 8, 8)]


def update(m: int, n: int, r: int, seed: int = 0, **changes: object) -> Update:
    generator = torch.Generator().manual_seed(seed)
    fields = {
        "a": torch.randn(r, n, generator=generator).requires_grad_(),
        "b": torch.randn(m, r, generator=generator).requires_grad_(),
        "scale": 2.0,
        "base_norm2": torch.tensor(1.0),
    }
    return Update(**{**fields, **changes})


def dense_low_energy(one: Update, low: float) -> torch.Tensor:
    """The same by the dense two-dimensional transform."""
    delta = one.scale * (one.b @ one.a).detach().double()
    m, n = delta.shape
    spectrum = torch.fft.fft2(delta, norm="ortho").abs() ** 2

    def band(length: int) -> torch.Tensor:
        index = torch.arange(length)
        frequency = torch.minimum(index, length - index)
        return (frequency <= low * (length / 2)).double()

    return (spectrum * band(m)[:, None] * band(n)[None, :]).sum()


@pytest.mark.parametrize(("m", "n", "r"), SHAPES)
@pytest.mark.parametrize("low", [0.1, 0.25, 0.6])
def test_low_energy_equals_the_dense_transform(m, n, r, low):
    one = update(m, n, r)
    expected = dense_low_energy(one, low)
    torch.testing.assert_close(
        fourier.low_energy(one, low).double(), expected, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(("m", "n", "r"), SHAPES)
def test_with_the_whole_band_it_is_the_frobenius_norm(m, n, r):
    one = update(m, n, r)
    norm2 = (one.scale * one.b @ one.a).square().sum()
    torch.testing.assert_close(fourier.low_energy(one, 1.0), norm2, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(fourier.energy(one), norm2, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mode", ["spectral", "l2"])
def test_has_a_gradient(mode):
    one = update(12, 16, 3)
    fourier.penalty([one], mode).backward()
    assert float(one.a.grad.abs().max()) > 0
    assert float(one.b.grad.abs().max()) > 0


def test_paper_mode_has_a_gradient_too():
    one = update(12, 16, 3)
    fourier.penalty([one], "paper").backward()
    assert float(one.a.grad.abs().max()) > 0


def test_the_gradient_agrees_with_finite_differences():
    one = update(6, 8, 2)
    (gradient,) = torch.autograd.grad(fourier.spectral_ratio(one), one.a)
    step = 1e-3
    for row, column in [(0, 0), (1, 5), (0, 7)]:
        values = []
        for sign in (1, -1):
            moved = one.a.detach().clone()
            moved[row, column] += sign * step
            other = Update(a=moved, b=one.b.detach(), scale=one.scale, base_norm2=torch.tensor(1.0))
            values.append(float(fourier.spectral_ratio(other)))
        slope = (values[0] - values[1]) / (2 * step)
        assert slope == pytest.approx(float(gradient[row, column]), rel=2e-2, abs=2e-4)


def test_does_not_depend_on_how_the_update_is_factored():
    one = update(12, 16, 3)
    mix = torch.randn(3, 3, generator=torch.Generator().manual_seed(5)) + 3 * torch.eye(3)
    other = Update(
        a=torch.linalg.solve(mix, one.a.detach()),
        b=one.b.detach() @ mix,
        scale=one.scale,
        base_norm2=torch.tensor(1.0),
    )
    torch.testing.assert_close(
        fourier.spectral_ratio(one).detach(), fourier.spectral_ratio(other), rtol=1e-4, atol=1e-5
    )


def test_is_zero_where_b_is_zero():
    one = update(12, 16, 3, b=torch.zeros(12, 3, requires_grad=True))
    value = fourier.spectral_ratio(one)
    assert value.item() == 0.0
    value.backward()
    assert torch.isfinite(one.b.grad).all()


def test_lies_between_zero_and_one():
    for seed in range(20):
        assert 0.0 <= fourier.spectral_ratio(update(13, 9, 2, seed=seed)).item() <= 1.0


def test_a_smooth_update_is_free_and_a_checkerboard_costs_all():
    ramp = torch.ones(16, 1)
    smooth = update(16, 16, 1, a=ramp.T.clone(), b=ramp.clone())
    assert fourier.spectral_ratio(smooth).item() == pytest.approx(0.0, abs=1e-5)
    signs = torch.tensor([1.0, -1.0] * 8)[:, None]
    rough = update(16, 16, 1, a=signs.T.clone(), b=signs.clone())
    assert fourier.spectral_ratio(rough).item() == pytest.approx(1.0, abs=1e-5)


def test_a_fixed_random_order_changes_the_spectrum_and_not_the_energy():
    plain = update(32, 24, 2)
    # Of the same seed each time: some orders leave it nearly where it was.
    order = torch.Generator().manual_seed(1)
    rows, columns = torch.randperm(32, generator=order), torch.randperm(24, generator=order)
    permuted = update(32, 24, 2, row_order=rows, column_order=columns)
    torch.testing.assert_close(fourier.energy(plain), fourier.energy(permuted))
    assert fourier.low_energy(plain).item() != pytest.approx(
        fourier.low_energy(permuted).item(), rel=1e-3
    )


def fit(strength: float) -> float:
    """Fit a target, smooth and rough, under the penalty; the share of high frequencies left."""
    generator = torch.Generator().manual_seed(0)
    wave = torch.cos(torch.linspace(0, 3.14, 16))
    target = 2 * torch.outer(wave, wave) + 0.5 * torch.randn(16, 16, generator=generator)
    one = update(16, 16, 4, seed=1)
    optimizer = torch.optim.Adam([one.a, one.b], lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        loss = (one.scale * one.b @ one.a - target).square().mean()
        (loss + strength * fourier.penalty([one], "spectral")).backward()
        optimizer.step()
    return float(fourier.spectral_ratio(one).detach())


def test_more_strength_leaves_less_high_frequency():
    shares = [fit(strength) for strength in (0.0, 0.3, 1.0, 3.0)]
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] < 0.5 * shares[0]


def test_activation_penalty_is_the_expected_square_of_the_output():
    inputs = torch.randn(50, 16, generator=torch.Generator().manual_seed(2))
    one = update(12, 16, 3, second_moment=inputs.T / 50**0.5)
    delta = one.scale * (one.b @ one.a).detach()
    expected = (inputs @ delta.T).square().sum(dim=1).mean()
    even = fourier.energy(one).detach() * inputs.square().sum() / 50 / 16
    torch.testing.assert_close(
        fourier.activation_ratio(one).detach(), expected / (even + 1e-8), rtol=1e-4, atol=1e-6
    )


def test_strength_aims_at_a_share_of_the_gradient():
    strength = fourier.Strength(share=0.1, inertia=0.5)
    assert strength.update(2.0, 4.0) == pytest.approx(0.05)
    for _ in range(40):
        value = strength.update(4.0, 4.0)
    assert value == pytest.approx(0.1, rel=1e-3)
    assert strength.update(1.0, 0.0) == value


def test_modules_of_one_shape_at_once_give_the_mean_of_each():
    several = [update(12, 16, 3, seed=seed) for seed in range(3)] + [update(8, 8, 2)]
    for mode in ("spectral", "l2", "paper"):
        each = torch.stack([fourier.MODES[mode](one) for one in several]).mean()
        torch.testing.assert_close(fourier.penalty(several, mode), each)
