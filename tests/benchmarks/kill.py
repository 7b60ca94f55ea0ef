"""kill -9 at random points of ``adapt``: does every resumed run end with the same weights?"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import bars

WEIGHTS = (
    "adapter_config.json", "adapter_model.safetensors", "adapter.gguf", "merged-q8_0.gguf",
)  # fmt: skip


def measure(source: Path, kills: int, steps: int, budget: str, seed: int = 0) -> dict[str, Any]:
    """One whole run, then as many that are killed and resumed."""
    rng = random.Random(seed)
    with TemporaryDirectory() as name:
        folder = Path(name)
        repository = folder / "repository"
        skip = shutil.ignore_patterns("__pycache__", "*.toml")
        shutil.copytree(source, repository, ignore=skip)
        # The base is requantized for serving once: the runs are alike after the first.
        adapt(folder / "home", repository, steps, budget)
        started = time.monotonic()
        adapt(folder / "home", repository, steps, budget)
        whole_s = time.monotonic() - started
        expected = weights(folder / "home", repository)
        points: list[dict[str, Any]] = []
        while len(points) < kills:
            after_s = rng.uniform(0.03, 0.97) * whole_s
            point = one_kill(folder / "home", repository, steps, budget, after_s)
            # A run that had ended before it was to be killed shows nothing.
            points += [point] if point["phase"] != "ended" else []
    same = [point["weights"] == expected for point in points]
    return {
        "kills": kills,
        "same": sum(same),
        "steps": steps,
        "whole_s": round(whole_s, 1),
        "points": [
            {"after_s": point["after_s"], "phase": point["phase"], "same": one}
            for point, one in zip(points, same, strict=True)
        ],
    }


def adapt(home: Path, repository: Path, steps: int, budget: str) -> None:
    """A run to its end."""
    done = subprocess.run(
        command(repository, steps, budget), env=environment(home), capture_output=True, check=False
    )
    assert done.returncode in (0, 3), done.stderr.decode()


def one_kill(
    home: Path, repository: Path, steps: int, budget: str, after_s: float
) -> dict[str, Any]:
    """A run that is killed after so long, and resumed: where it was, and its weights."""
    before = versions(home, repository)
    events = home / "events.txt"
    with events.open("wb") as log:
        process = subprocess.Popen(
            command(repository, steps, budget), env=environment(home), stderr=log,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(after_s)
        ended = process.poll() is not None
        process.kill()
        process.wait()
    phase = "ended" if ended else last_phase(events)
    if not ended:
        again = [bars.PROGRAM, "adapt", str(repository), "--resume", "--json"]
        done = subprocess.run(again, env=environment(home), capture_output=True, check=False)
        if done.returncode == 1 and b"no interrupted run" in done.stderr:
            # Killed before anything was asked for, or after all was done.
            adapt(home, repository, steps, budget)
        else:
            assert done.returncode in (0, 3), done.stderr.decode()
    assert len(versions(home, repository)) > len(before), "the resumed run made nothing"
    return {"after_s": round(after_s, 2), "phase": phase, "weights": weights(home, repository)}


def command(repository: Path, steps: int, budget: str) -> list[str]:
    """A run whose number of steps does not depend on the machine's mood."""
    options = ["--steps", str(steps), "--budget", budget, "--progress", "json", "--json"]
    return [bars.PROGRAM, "adapt", str(repository), *options]


def environment(home: Path) -> dict[str, str]:
    """A home of its own."""
    return {**os.environ, "FLEX_ASSIST_HOME": str(home)}


def last_phase(events: Path) -> str:
    """What the run did last."""
    told = [json.loads(line) for line in events.read_text().splitlines() if line.startswith("{")]
    if not told:
        return "start"
    last = told[-1]
    where = [last["phase"], last["language"], last["step"] if last["phase"] == "train" else None]
    return " ".join(str(part) for part in where if part is not None)


def versions(home: Path, repository: Path) -> list[str]:
    """All that there are, oldest first."""
    found = asked(home, "list", "--repo", str(repository))["adapters"]
    return sorted(one["version"] for one in found)


def weights(home: Path, repository: Path) -> dict[str, str]:
    """Digests of the files of each adapter's newest version."""
    listed = asked(home, "list", "--repo", str(repository))["adapters"]
    newest = {one["name"]: one["version"] for one in sorted(listed, key=lambda one: one["version"])}
    found = {}
    for adapter, version in newest.items():
        shown = asked(home, "show", f"{adapter}/{version}", "--repo", str(repository))
        found.update({f"{adapter} {name}": shown["artefacts"][name] for name in WEIGHTS})
    return found


def asked(home: Path, *arguments: str) -> dict[str, Any]:
    """What ``flex-assist adapters`` answers."""
    command = [bars.PROGRAM, "adapters", *arguments, "--json"]
    done = subprocess.run(command, env=environment(home), capture_output=True, check=True)
    return dict(json.loads(done.stdout))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--repo", type=Path, default=bars.ROOT / "flex_assist")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    found = measure(given.repo, given.kills, given.steps, "60s", given.seed)
    bars.write("kill", {"command": bars.command("kill"), **found})
    sys.exit(0 if found["same"] == found["kills"] else 1)
