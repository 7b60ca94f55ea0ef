"""What an adapter gains is its repository's, and a planted key stays unknown: ``bench adapt``."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import bars


def main() -> None:
    """Measure and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repo", type=Path, help="a repository; flex-assist itself without it")
    parser.add_argument("--other", type=Path, help="the wrong one; Python's library without it")
    parser.add_argument("--budget", default="4m")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    command = [bars.PROGRAM, "bench", "adapt", *([str(given.repo)] if given.repo else [])]
    command += ["--other", str(given.other)] if given.other else []
    command += ["--budget", given.budget, "--seed", str(given.seed), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    figures = json.loads(done.stdout)
    bars.write("adapt_controls", {"command": bars.command("adapt"), **figures})
    sys.exit(0 if figures["holds"] else 1)


if __name__ == "__main__":
    main()
