"""The filters must not take away what is right: real sources of all languages, real places."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture
def trimming(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setattr(sys, "path", [str(ROOT / "tests" / "benchmarks"), *sys.path])
    import trimming

    return trimming


def test_what_stood_there_is_kept(trimming: object) -> None:
    files = sorted((ROOT / "tests" / "data" / "syntax").iterdir())
    shares = trimming.measure(files, 30)  # type: ignore[attr-defined]
    assert shares["all"]["places"] > 200
    assert shares["all"]["kept"] > 0.97
    assert shares["all"]["cut"] > 0.95
    own = trimming.measure(sorted((ROOT / "flex_assist").rglob("*.py")), 4)  # type: ignore[attr-defined]
    assert own["python"]["kept"] > 0.97
    assert own["python"]["cut"] > 0.96
