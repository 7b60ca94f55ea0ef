"""A hostile repository: are its verdicts as expected, is nothing of it run, is no secret kept?

First ``adapt --dry-run``, for the verdicts, the time and the memory; then ``adapt`` itself, after
which every file that the product wrote is searched for the secrets. Run as root, it does all of
this without root's right to read what modes forbid.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import bars
import psutil

MOST_SECONDS, MOST_MB = 30, 600
SAMPLE_S = 0.05
CHUNK_BYTES = 1 << 22


def measure(generator: Path, *, many: int, steps: int, budget: str) -> dict[str, Any]:
    """Everything, in a folder of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            return _measured(folder, generator, many, steps, budget)
        finally:
            # Closed folders must not outlive the measurement.
            for closed in (folder / "bad/repo/perm").glob("*"):
                closed.chmod(0o700)


def is_root() -> bool:
    """Whether modes would stop nobody."""
    return hasattr(os, "getuid") and os.getuid() == 0


def _measured(folder: Path, generator: Path, many: int, steps: int, budget: str) -> dict[str, Any]:
    made = folder / "bad"
    options = ["--fsmonitor-canary", "--many", str(many)]
    script = folder / generator.name
    shutil.copy(generator, script)
    script.chmod(0o644)
    run(folder, [sys.executable, str(script), str(made), *options])
    expected = json.loads((made / "EXPECT.json").read_text())
    dry, seconds, peak_mb = watched(
        folder, [bars.PROGRAM, "adapt", str(made / "repo"), "--dry-run", "--json"]
    )
    found = {one["path"]: one["verdict"] for one in json.loads(dry)["files"]}
    limited = ["--steps", str(steps), "--budget", budget, "--json"]
    learnt = run(folder, [bars.PROGRAM, "adapt", str(made / "repo"), *limited], accepted=(0, 3))
    run(folder, [bars.PROGRAM, "complete", str(made / "repo/src/app/mod_00.py:8:5")])
    run(folder, [bars.PROGRAM, "engine", "stop"])
    secrets = [one["value"] for one in expected["secrets"]]
    written = [path for path in home(folder).rglob("*") if path.is_file()]
    return {
        "entries": len(expected["entries"]),
        "disagreements": disagreements(expected, found),
        "dry_run_s": round(seconds, 1),
        "dry_run_mb": round(peak_mb),
        "adapted": {n: one["verdict"] for n, one in json.loads(learnt)["languages"].items()},
        "files_searched": len(written),
        "megabytes_searched": round(sum(path.stat().st_size for path in written) / 1e6),
        "secrets": len(secrets),
        "secrets_found": sorted(
            {str(path.relative_to(home(folder))) for path in written if holds(path, secrets)}
            | ({"standard output"} if any(one in dry + learnt for one in secrets) else set())
        ),
        "executed": [Path(path).name for path in expected["canaries"] if Path(path).exists()],
        "modes_count": not os.access(made / "repo/perm/unreadable.py", os.R_OK) or is_root(),
    }


def disagreements(expected: Mapping[str, Any], found: Mapping[str, str]) -> list[list[str]]:
    """Entries whose verdict is not the expected one: path, expected, found."""
    wrong = []
    for entry in expected["entries"]:
        path = entry["path"].encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        verdict = {"held-out": "train"}.get(found.get(path, "skip"), found.get(path, "skip"))
        if entry["expect"] not in ("either", verdict):
            wrong.append([path, entry["expect"], verdict])
    return wrong


def holds(path: Path, secrets: list[str]) -> bool:
    """Whether a file has the bytes of a secret in it."""
    wanted = [one.encode() for one in secrets]
    overlap = max(map(len, wanted)) - 1
    return any(any(one in block for one in wanted) for block in _blocks(path, overlap))


def _blocks(path: Path, overlap: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        tail = b""
        while chunk := file.read(CHUNK_BYTES):
            yield tail + chunk
            tail = (tail + chunk)[-overlap:]


def home(folder: Path) -> Path:
    """Where the product writes."""
    return folder / "home"


def run(folder: Path, command: list[str], accepted: tuple[int, ...] = (0,)) -> str:
    """The standard output of a command."""
    done = subprocess.run(_plain(command), stdout=subprocess.PIPE, **_place(folder), check=False)
    assert done.returncode in accepted, (command, done.returncode)
    return done.stdout.decode()


def watched(folder: Path, command: list[str]) -> tuple[str, float, float]:
    """Standard output, seconds, and the highest resident memory of all its processes in MB."""
    started = time.monotonic()
    process = subprocess.Popen(_plain(command), stdout=subprocess.PIPE, **_place(folder))
    peak, over = [0.0], threading.Event()
    watcher = threading.Thread(target=_watch, args=(process.pid, peak, over))
    watcher.start()
    out, _ = process.communicate()
    seconds = time.monotonic() - started
    over.set()
    watcher.join()
    assert process.returncode == 0, process.returncode
    return out.decode(), seconds, peak[0]


def _watch(pid: int, peak: list[float], over: threading.Event) -> None:
    while not over.wait(SAMPLE_S):
        try:
            first = psutil.Process(pid)
            tree = [first, *first.children(recursive=True)]
            peak[0] = max(peak[0], sum(one.memory_info().rss for one in tree) / 1e6)
        except psutil.Error:
            continue


def _plain(command: list[str]) -> list[str]:
    """The command, for which modes count."""
    rights = "-dac_override,-dac_read_search"
    return ["setpriv", f"--bounding-set={rights}", *command] if is_root() else command


def _place(folder: Path) -> dict[str, Any]:
    environment = {**os.environ, "HOME": str(folder), "FLEX_ASSIST_HOME": str(home(folder))}
    return {"env": environment, "cwd": folder}


def main() -> None:
    """Measure and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the shared data")
    parser.add_argument("--many", type=int, default=5000, help="tiny files beside the odd ones")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--budget", default="4m")
    given = parser.parse_args()
    figures = measure(
        given.data / "make_bad_repo.py", many=given.many, steps=given.steps, budget=given.budget
    )
    figures["holds"] = (
        not figures["disagreements"] and not figures["secrets_found"] and not figures["executed"]
        and figures["dry_run_s"] <= MOST_SECONDS and figures["dry_run_mb"] <= MOST_MB
    )  # fmt: skip
    bars.write("hostile", {"command": bars.command("hostile"), **figures})
    sys.exit(0 if figures["holds"] else 1)


if __name__ == "__main__":
    main()
