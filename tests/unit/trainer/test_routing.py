"""Who is chosen by what was measured."""

import pytest

from flex_assist.adapters.routes import Candidate
from flex_trainer.routing import Measured, Window, decide

OLD = "20200101T000000Z-abcd"
NAMES = ("base", "python", "shared", "shared+python", "ruby")


def candidate(name: str) -> Candidate:
    parts = [] if name == "base" else name.split("+")
    return Candidate(name=name, versions=dict.fromkeys(parts, OLD))


def measured(files: int = 10, windows: int = 20, **means: float) -> Measured:
    """Bits of windows of 100 bytes, with some noise of each one's own that comes to nothing."""
    names = {name.replace("_", "+"): mean for name, mean in means.items()}
    return Measured(
        windows=tuple(Window(file=at % files, tokens=(1,) * 50, size=100) for at in range(windows)),
        bits={
            name: [100 * mean + 2 * ((at * step) % 5 - 2) for at in range(windows)]
            for step, (name, mean) in enumerate(names.items(), start=1)
        },
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
        ("python", {"base": 1.5, "python": 1.2, "shared_python": 1.0}, "shared+python"),
        ("base", {"base": 1.5, "ruby": 1.499}, "base"),
        ("base", {"base": 1.5, "ruby": 1.3}, "ruby"),
        # Better than the plain one, and no better than the base.
        ("python", {"base": 1.3, "python": 1.7, "ruby": 1.3}, "base"),
    ],
)  # fmt: skip
def test_the_choice(plain: str, means: dict[str, float], choice: str) -> None:
    found = measured(**means)
    route = decide(plain, [candidate(name) for name in found.bits], found, 0)
    assert route.choice == choice
    assert f"{found.bits_per_byte(choice):.3f}" in route.reason
    assert "20 windows of 10 held-back files" in route.reason
    assert [one.name for one in route.candidates] == list(found.bits)
    for one in route.candidates:
        assert one.bits_per_byte == pytest.approx(found.bits_per_byte(one.name), abs=1e-4)
        assert (one.ci95 is None) == (one.name == "base")


def test_one_that_is_better_within_noise_is_told() -> None:
    found = measured(base=1.5, python=1.2, shared=1.19)
    reason = decide("python", [candidate(name) for name in found.bits], found, 0).reason
    assert "shared needs" in reason
    assert "not beyond noise" in reason


def test_a_few_files_are_resampled_by_window() -> None:
    few = measured(files=2, base=1.5, python=1.3)
    low, high = few.difference("python", "base", 0)
    assert low < high < 0
    many = measured(files=10, base=1.5, python=1.3)
    assert many.difference("python", "base", 0) != (low, high)
