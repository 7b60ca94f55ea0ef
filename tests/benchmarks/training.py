"""The bars on training: speed and memory against TRL and PEFT, and what Sophia and penalty cost.

On a quiet machine: the figures have the load average beside them.
"""

import argparse
import json
import subprocess
import sys
from typing import Any

import bars

LEAST, MOST = "at least", "at most"
# Where in the answer, which way, and how much.
WANTED = {
    "train": {
        "ratio.tokens_per_s": (LEAST, 1.3),
        "ratio.tokens_per_s_packed": (LEAST, 1.15),
        "ratio.peak_memory": (MOST, 0.8),
    },
    "optimizers": {
        "overhead.hessian": (MOST, 0.12),
        "overhead.spectral": (MOST, 0.03),
    },
}
OPTIONS = {
    "train": ["--repeats", "3"],
    "optimizers": ["--svg", str(bars.FOLDER / "optimizers.svg")],
}


def judge(found: dict[str, Any], name: str) -> dict[str, Any]:
    """Each bar: what was wanted, what is, and whether that will do."""
    judged = {}
    for path, (way, limit) in WANTED[name].items():
        value: Any = found
        for key in path.split("."):
            value = value[key]
        met = value >= limit if way == LEAST else value <= limit
        judged[path] = {"wanted": f"{way} {limit}", "value": value, "met": met}
    return judged


def main() -> int:
    """Run the command, write ``docs/bars/NAME.json``; 1 where a bar is not met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=tuple(WANTED))
    arguments, more = parser.parse_known_args()
    name = arguments.name
    bars.FOLDER.mkdir(parents=True, exist_ok=True)
    command = [bars.PROGRAM, "bench", name, "--json", *OPTIONS[name], *more]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    found = json.loads(done.stdout)
    judged = judge(found, name)
    bars.write(name, {"command": bars.command(name, more), "bars": judged, **found})
    return 0 if all(one["met"] for one in judged.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
