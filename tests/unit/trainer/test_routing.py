"""Who is chosen by what was measured."""

import pytest

from flex_assist.adapters.routes import Candidate
from flex_trainer.gate_windows import Bits, Window
from flex_trainer.routing import decide

OLD = "20200101T000000Z-abcd"
NAMES = ("base", "python", "shared", "shared+python", "ruby")


def candidate(name: str) -> Candidate:
    parts = [] if name == "base" else name.split("+")
    return Candidate(name=name, versions=dict.fromkeys(parts, OLD))


def measured(means: dict[str, float], files: int = 10, windows: int = 20) -> Bits:
    """Bits of windows of 100 bytes, with some noise of each one's own that comes to nothing."""
    return Bits(
        windows=tuple(Window(file=at % files, tokens=(1,) * 50, size=100) for at in range(windows)),
        arms=tuple(
            tuple(100 * mean + 2 * ((at * step) % 5 - 2) for at in range(windows))
            for step, mean in enumerate(means.values(), start=1)
        ),
    )


@pytest.mark.parametrize(
    ("plain", "means", "choice"),
    [
        ("python", {"base": 1.5, "python": 1.2}, "python"),
        # Not told from the base: what the gate let through stays.
        ("python", {"base": 1.5, "python": 1.5}, "python"),
        ("python", {"base": 1.5, "python": 1.7}, "base"),
        ("python", {"base": 1.5, "python": 1.2, "shared": 1.19}, "python"),
        ("python", {"base": 1.5, "python": 1.2, "shared": 1.0}, "shared"),
        ("python", {"base": 1.5, "python": 1.2, "shared+python": 1.0}, "shared+python"),
        ("base", {"base": 1.5, "ruby": 1.499}, "base"),
        ("base", {"base": 1.5, "ruby": 1.3}, "ruby"),
        # Better than the plain one, and no better than the base.
        ("python", {"base": 1.3, "python": 1.7, "ruby": 1.3}, "base"),
    ],
)  # fmt: skip
def test_the_choice(plain: str, means: dict[str, float], choice: str) -> None:
    route = decide(plain, [candidate(name) for name in means], measured(means), 0)
    assert route.choice == choice
    assert f"{means[choice]:.3f}" in route.reason
    assert "20 windows of 10 held-back files" in route.reason
    assert [one.name for one in route.candidates] == list(means)
    for one in route.candidates:
        assert one.bits_per_byte == pytest.approx(means[one.name], abs=1e-4)
        assert (one.ci95 is None) == (one.name == "base")


def test_one_that_is_better_within_noise_is_told() -> None:
    means = {"base": 1.5, "python": 1.2, "shared": 1.19}
    reason = decide("python", [candidate(name) for name in means], measured(means), 0).reason
    assert "shared needs 1.190, which is not beyond noise" in reason
