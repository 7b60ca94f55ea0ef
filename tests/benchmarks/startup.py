"""How fast ``flex-assist --help`` is there, and how fast ``initialize`` is answered."""

import argparse
import json
import statistics
import subprocess
import sys
import time
from typing import Any

import bars

HEAVY = ("torch", "llama_cpp", "pygls", "textual")


def measure(runs: int) -> dict[str, Any]:
    """Medians over ``runs``."""
    return {
        "help_ms": {"median": _median([help_ms() for _ in range(runs)]), "runs": runs},
        "help_loads": loaded(),
        "initialize_ms": {"median": _median([initialize_ms() for _ in range(runs)]), "runs": runs},
    }


def help_ms() -> float:
    """Milliseconds of one ``--help``."""
    started = time.perf_counter()
    subprocess.run([bars.PROGRAM, "--help"], check=True, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - started) * 1000


def loaded() -> list[str]:
    """Which of the heavy packages ``--help`` loads: none should be."""
    code = (
        "import sys, contextlib\n"
        "from flex_assist.cli.main import build\n"
        "with contextlib.suppress(SystemExit): build()(['--help'])\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return list(json.loads(done.stderr.strip().replace("'", '"')))


def initialize_ms() -> float:
    """Milliseconds from the start of the language server's process to its answer."""
    parameters = {"processId": None, "rootUri": None, "capabilities": {}}
    body = json.dumps(
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": parameters}
    ).encode()
    started = time.perf_counter()
    with subprocess.Popen(
        [bars.PROGRAM, "lsp"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        process.stdin.flush()
        process.stdout.readline()
        taken = (time.perf_counter() - started) * 1000
        process.kill()
    return taken


def _median(values: list[float]) -> float:
    return round(statistics.median(values), 1)


def main() -> int:
    """Measure and write ``docs/bars/startup.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=11)
    bars.write("startup", {"command": "make bars-startup", **measure(parser.parse_args().runs)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
