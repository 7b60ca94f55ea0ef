"""The engine host's bars at test size: real traffic, each answer against a fresh context."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def measured(name: str, *arguments: str) -> dict[str, Any]:
    """What a benchmark prints; its times are nobody's business here."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", BENCHMARKS / f"{name}.py", *arguments, "--try"],
        stdout=subprocess.PIPE, text=True, timeout=280, check=False,
    )  # fmt: skip
    return dict(json.loads(done.stdout))


def test_typing_in_many_files_with_cancels_leaves_nothing_wrong() -> None:
    found = measured("soak", "--requests", "120", "--samples", "20")
    held = {name for name, holds in found["holds"].items() if holds}
    # Memory is still growing to what it needs.
    assert held >= found["holds"].keys() - {"rss_growth_at_most_2_percent"}, found
    assert found["samples"] == 20
    assert found["with_reuse"] > 5
    assert found["cancelled"] > 5


def test_an_adapter_answers_as_if_the_other_had_not_been_asked() -> None:
    found = measured("switching", "--rounds", "4")
    assert found["holds"], found
    assert found["answers_as_fresh"] == 12
