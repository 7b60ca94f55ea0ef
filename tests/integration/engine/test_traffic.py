"""The engine host's bars at test size: real traffic, each answer against a fresh context."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
WAIT_S = 280
# At this size memory is still growing to what it needs, and a control may say the same by chance.
NOT_HERE = {"rss_growth_at_most_2_percent", "wrong_weights_would_be_seen"}
pytestmark = pytest.mark.skipif(not hasattr(os, "killpg"), reason="POSIX process groups")


def measured(name: str, *arguments: str) -> dict[str, Any]:
    """What a benchmark prints; its times are nobody's business here."""
    command = [sys.executable, "-W", "ignore", BENCHMARKS / f"{name}.py", *arguments, "--try"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        return dict(json.loads(process.communicate(timeout=WAIT_S)[0]))
    finally:
        # A host that it started may be left where it failed.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def held(found: dict[str, Any]) -> bool:
    return all(holds for name, holds in found["holds"].items() if name not in NOT_HERE)


def test_typing_in_many_files_with_cancels_leaves_nothing_wrong() -> None:
    found = measured("soak", "--requests", "120", "--samples", "20")
    assert held(found), found
    assert found["with_reuse"] > 5
    assert found["cancelled"] > 5


def test_an_adapter_answers_as_if_the_other_had_not_been_asked() -> None:
    found = measured("switching", "--rounds", "4")
    assert held(found), found
    assert found["answers_as_fresh"] == 12
