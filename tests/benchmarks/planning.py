"""What the planner expects of memory and time, against what it comes to, on three set-ups."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import bars

# By the environment, as a user sets them: rank, memory to plan with, optimizer, steps.
SETUPS: dict[str, dict[str, str]] = {
    "as it comes": {},
    "rank 64, AdamW": {"TRAINING_RANK": "64", "TRAINING_OPTIMIZER": "adamw"},
    "little memory": {"TRAINING_MEMORY_MB": "1600"},
}


def measure(budget: str, names: list[str]) -> dict[str, Any]:
    """Expected and measured, of each set-up, and how far they are apart."""
    with TemporaryDirectory() as home:
        runs = {name: run(SETUPS[name], budget, Path(home)) for name in names}
    return {"budget": budget, "setups": runs, "worst": worst(runs)}


def run(setup: dict[str, str], budget: str, home: Path) -> dict[str, Any]:
    """One adapt of this project's own core."""
    own = {f"FLEX_ASSIST_{key}": value for key, value in setup.items()}
    done = subprocess.run(
        [bars.PROGRAM, "adapt", str(bars.ROOT / "flex_assist"), "--budget", budget, "--json"],
        env={**os.environ, "FLEX_ASSIST_HOME": str(home), **own}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode in (0, 3), done.stderr
    plan = json.loads(done.stdout)["plan"]
    expected, measured = plan["predicted"], plan["measured"]
    ratios = {key: round(expected[key] / measured[key], 3) for key in expected}
    return {**plan, "ratio": ratios, "told": done.stderr.strip().splitlines()}


def worst(runs: dict[str, Any]) -> dict[str, float]:
    """The largest distance of a ratio from 1."""
    keys = next(iter(runs.values()))["ratio"]
    return {key: round(max(abs(one["ratio"][key] - 1) for one in runs.values()), 3) for key in keys}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budget", default="2m")
    found = measure(parser.parse_args().budget, list(SETUPS))
    bars.write("plan", {"command": bars.command("plan"), **found})
    kept = found["worst"]["memory_mb"] <= 0.15 and found["worst"]["total_s"] <= 0.25
    sys.exit(0 if kept and found["worst"]["training_s"] <= 0.25 else 1)
