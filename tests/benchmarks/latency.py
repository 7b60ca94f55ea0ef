"""What somebody who types sees: ours against llama.cpp's server, driven as llama.vim drives it.

Both serve one merged file with infilling tokens: an adapter that is trained here for some steps on
this project's source, less the files of the trace, or `--model`. The command is `flex-assist bench
latency`; its rules are told in `flex_lsp/bench/latency.py` and `typist.py`. A machine's speed
varies from minute to minute, so both take turns, and the bars are of medians.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import bars

from flex_assist.adapters.manifest import MERGED_GGUF
from flex_lsp.bench.trace import FOLDER, read

MOST = {"p50": 0.7, "p95": 0.6, "cpu": 0.5}
MOST_SWITCH_MS = 2.0
RUNS = 3


def merged(folder: Path, steps: int) -> Path:
    """Train, and merge."""
    import parity

    from flex_assist.engine.llama import Model
    from flex_assist.models import store

    base = store.find("smollm2-135m").path
    typed = {(bars.ROOT / one.path) for one in read(FOLDER / "history.json").files}
    unseen = {path.read_text() for path in typed if path.exists()}
    texts = [text for part in parity.own_source() for text in part if text not in unseen]
    parity.train_adapter(base, texts, Model.load(base, vocab_only=True), steps, folder, seed=0)
    return folder / MERGED_GGUF


def measure(model: Path, seconds: float, server: Path | None) -> dict[str, Any]:
    """One run of the command."""
    command = [bars.PROGRAM, "bench", "latency", "--model", str(model), "--json"]
    if server is not None:
        command += ["--llama-server", str(server)]
    done = subprocess.run(
        [*command, "--seconds", str(seconds)],
        check=True, stdout=subprocess.PIPE, text=True, env={**os.environ},
    )  # fmt: skip
    found = dict(json.loads(done.stdout))
    # Of a run that takes minutes nothing is lost if a later one fails.
    print(json.dumps(found), file=sys.stderr, flush=True)
    return found


def medians(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of the ratios of each run, and of what a switch costs."""
    ratio: dict[str, float | None] = {}
    for name in runs[0]["ratio"]:
        found = [run["ratio"][name] for run in runs]
        ratio[name] = None if None in found else round(median(found), 3)
    costs = ("switch_p95_ms", "stay_p95_ms")
    costs_ms = {key: median(run[key] for run in runs) for key in costs}
    return {"ratio": ratio, **costs_ms, "runs": list(runs)}


def verdicts(found: dict[str, Any]) -> dict[str, bool]:
    """What must hold."""
    ratio = found["ratio"]
    held = {
        f"{name}_at_most_{most}": ratio[name] is not None and ratio[name] <= most
        for name, most in MOST.items()
    }
    accepted = [run["ours"]["accepted_characters"] >= run["peer"]["accepted_characters"]
                for run in found["runs"]]  # fmt: skip
    return {
        **held,
        "accepted_characters_at_least_1": all(accepted),
        "switch_p95_at_most_2_ms": found["switch_p95_ms"] <= MOST_SWITCH_MS,
    }


def main() -> int:
    """Measure and write the bar."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="a merged file, instead of training one")
    parser.add_argument(
        "--llama-server", type=Path, help="a llama-server of your own, instead of the package's"
    )
    parser.add_argument("--steps", type=int, default=80, help="of the training")
    parser.add_argument("--runs", type=int, default=RUNS, help="of both sides, in turn")
    parser.add_argument("--seconds", type=float, default=0, help="of the trace; 0 takes all")
    parser.add_argument("--print", action="store_true", help="print, and write no bar")
    arguments = parser.parse_args()
    with TemporaryDirectory() as name:
        model = arguments.model or merged(Path(name), arguments.steps)
        given = model, arguments.seconds, arguments.llama_server
        runs = [measure(*given) for _ in range(max(1, arguments.runs))]
    # Where files lie on this machine is of no use on another.
    shown = [Path(arg).name if Path(arg).is_file() else arg for arg in sys.argv[1:]]
    command = bars.command("latency", shown)
    found = medians(runs)
    figures = {"command": command, "bars": verdicts(found), **found}
    return bars.finish("latency", figures, figures["bars"], store=not arguments.print)


if __name__ == "__main__":
    sys.exit(main())
