"""The bars on real repositories: bits per byte and exact match before and after ``adapt``.

``DATA`` is the folder of shared evaluation data with ``make_repos.sh``, ``make_cases.py`` and
``score.py``; it is no part of this project. The repository that ``adapt`` sees holds the training
files only: the cases come from others.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import bars


def main() -> int:
    """Prepare, adapt, complete, score, and write ``docs/bars/<repository>.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("repository", choices=("small", "polyglot"))
    parser.add_argument("--data", type=Path, required=True, help="folder of the shared data")
    parser.add_argument("--work", type=Path, default=Path(".cache/bars"))
    parser.add_argument("--budget", default="8m")
    parser.add_argument("--limit", type=int, default=0, help="cases; 0 takes all")
    parser.add_argument(
        "--stage", choices=("all", "adapt", "score"), default="all",
        help="adapt only, or score what an earlier run adapted",
    )  # fmt: skip
    arguments = parser.parse_args()
    if not (arguments.data / "score.py").is_file():
        parser.error(f"{arguments.data} has no score.py; give the shared data with --data")
    name, work = arguments.repository, arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    train = prepare(name, arguments.data.resolve(), work)
    os.environ["FLEX_ASSIST_HOME"] = str(work / f"home-{name}")
    found = adapt(train, arguments.budget, work / f"{name}-adapt.json", arguments.stage)
    if arguments.stage != "adapt":
        cases = work / "cases" / f"{name}.cases.jsonl.gz"
        predictions = {
            side: complete(train, cases, work / f"{name}-{side}.jsonl", side, arguments.limit)
            for side in ("none", "auto")
        }
        found["exact_match_by_truncation"] = {
            cut: score(arguments.data, cases, predictions, work / f"{name}-{cut}.json", cut)
            for cut in ("none", "line")
        }
    bars.write(name, {"command": f"make bars-{name} DATA=...", **found})
    return 0


def prepare(name: str, data: Path, work: Path) -> Path:
    """The repository's training files, as a repository of their own."""
    repositories, train = work / "repositories", work / "train" / name
    if not (repositories / name).is_dir():
        _run("bash", str(data / "make_repos.sh"), str(repositories))
    if not train.is_dir():
        (work / "cases").mkdir(exist_ok=True)
        source, out = str(repositories / name), str(work / "cases")
        command = [sys.executable, str(data / "make_cases.py"), source]
        _run(*command, "--name", name, "--out", out, "--export-train", str(train))
    return train


def adapt(train: Path, budget: str, kept: Path, stage: str) -> dict[str, Any]:
    """Run ``adapt``, or for the stage ``score`` read what it said; its JSON and what it took."""
    if stage == "score":
        return dict(json.loads(kept.read_text()))
    started, commit = time.monotonic(), bars.commit()
    options = ["--budget", budget, "--json", "--progress", "json"]
    command = [bars.PROGRAM, "adapt", str(train), *options]
    output = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    found = {
        "budget": budget,
        "adapted_at": commit,
        "wall_s": round(time.monotonic() - started, 1),
        # Where it lay on this machine says nothing.
        "adapt": {**json.loads(output), "repository": train.name},
    }
    kept.write_text(json.dumps(found))
    return found


def complete(train: Path, cases: Path, out: Path, adapter: str, limit: int) -> Path:
    """Predictions for all cases."""
    options = ["--repo", str(train), "--adapter", adapter, "--limit", str(limit), "--json"]
    command = [bars.PROGRAM, "bench", "completions", "--cases", str(cases), "--out", str(out)]
    _run(*command, *options)
    return out


def score(
    data: Path, cases: Path, predictions: dict[str, Path], out: Path, truncate: str
) -> dict[str, Any]:
    """The outside scorer's exact match, with its paired difference to the base."""
    command = [sys.executable, str(data / "score.py"), str(cases), "--truncate", truncate]
    sides = ["--preds", str(predictions["auto"]), "--baseline", str(predictions["none"])]
    _run(*command, *sides, "--json", str(out))
    groups = json.loads(out.read_text())["groups"]
    return {
        group: {"cases": found["n"], **found["em"]}
        for group, found in groups.items()
        if group == "all" or group.startswith(("kind=", "lang=", "seen_in_train="))
    }


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
