"""kill -9 at random moments of ``adapt``'s export, gate and promotion: is anything ever half?

One run is trained and killed as its export begins. Every kill starts from copies of what it left,
so only what follows training is done again. After each: the active adapter answers, every version
that can be seen is whole, and ``doctor --fix`` leaves nothing but versions.

The base is the starter's first layers: the same files in the same order, only smaller, so that many
kills fit into minutes.
"""

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
import kill

sys.path.insert(0, str(bars.ROOT / "tests"))
from conftest import write_first_layers

KEPT = ("data/adapters", "cache/training")
BESIDE_VERSIONS = {"adapt.lock", "registry.lock", "forgotten.json", "routes.json", "active"}
NOT_IN_MANIFEST = {"manifest.json", "report.html"}
CODE = "def add(a, b):\n    return "


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """One version that answers, one run up to its export, then as many kills."""
    rng = random.Random(given.seed)
    source, kills, steps, budget = given.repo, given.kills, given.steps, given.budget
    with TemporaryDirectory() as name:
        base = Path(name) / "base.gguf"
        write_first_layers(base, given.layers)
        os.environ["FLEX_ASSIST_MODEL_BASE"] = str(base)
        home, template, repository = (Path(name) / part for part in ("home", "kept", "repository"))
        shutil.copytree(source, repository, ignore=shutil.ignore_patterns("__pycache__", "*.toml"))
        (repository / "sum.py").write_text(CODE)
        kill.adapt(home, repository, steps, budget)
        answering = let_answer(home, repository)
        until_export(home, kill.command(repository, steps, budget))
        copy(home, template)
        window_s = whole(home, repository)
        points: list[dict[str, Any]] = []
        try:
            while len(points) < kills:
                copy(template, home)
                point = one_kill(home, repository, rng.uniform(0.0, 1.02) * window_s)
                # A run that had ended before it was to be killed shows nothing.
                points += [point] if point["phase"] != "ended" else []
                print(point, file=sys.stderr, flush=True)
        finally:
            run(home, "engine", "stop")
    good = [point for point in points if not point["faults"]]
    return {
        "layers": given.layers,
        "kills": kills,
        "good": len(good),
        "window_s": round(window_s, 1),
        "began_with": answering,
        "points": points,
    }  # fmt: skip


def let_answer(home: Path, repository: Path) -> str:
    """The version that the first run made, active whatever the gate said."""
    (version,) = kill.asked(home, "list", "--repo", str(repository))["adapters"]
    name = f"{version['name']}/{version['version']}"
    kill.asked(home, "activate", name, "--repo", str(repository))
    return name


def until_export(home: Path, command: list[str]) -> None:
    """Start a run, and kill it as its export begins."""
    process = started(home, command)
    wait_for_export(process)
    ended(process)


def started(home: Path, command: list[str]) -> subprocess.Popen[str]:
    """A run whose events can be read."""
    return subprocess.Popen(
        command, env=kill.environment(home), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
        text=True,
    )  # fmt: skip


def wait_for_export(process: subprocess.Popen[str]) -> None:
    """Read a run's events until it exports."""
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if line.startswith("{") and json.loads(line)["phase"] == "export":
            return
    raise AssertionError("the run exported nothing:\n" + "".join(said))


def ended(process: subprocess.Popen[str]) -> str:
    """Kill a run; what it did last since its export began."""
    over = process.poll() is not None
    process.kill()
    assert process.stderr is not None
    told = [json.loads(line) for line in process.stderr.read().splitlines() if line[:1] == "{"]
    process.stderr.close()
    process.wait()
    return "ended" if over else (told[-1]["phase"] if told else "export")


def resume(repository: Path) -> list[str]:
    """Go on where the run was killed."""
    return [bars.PROGRAM, "adapt", str(repository), "--resume", "--progress", "json"]


def whole(home: Path, repository: Path) -> float:
    """Seconds from the start of the export to the end of a run that nobody kills."""
    process = started(home, resume(repository))
    wait_for_export(process)
    began = time.monotonic()
    _, errors = process.communicate()
    assert process.returncode in (0, 3), errors
    return time.monotonic() - began


def one_kill(home: Path, repository: Path, after_s: float) -> dict[str, Any]:
    """A resumed run, killed so long after its export began, and what was found then."""
    process = started(home, resume(repository))
    wait_for_export(process)
    time.sleep(after_s)
    phase = ended(process)
    faults = [] if phase == "ended" else [*seen(home, repository), *left(home, repository)]
    return {"after_s": round(after_s, 2), "phase": phase, "faults": faults}


def seen(home: Path, repository: Path) -> list[str]:
    """What is wrong with what others see."""
    faults = []
    listed = kill.asked(home, "list", "--repo", str(repository))["adapters"]
    for one in listed:
        name = f"{one['name']}/{one['version']}"
        shown = run(home, "adapters", "show", name, "--verify", "--json", "--repo", str(repository))
        faults += [f"{name} is not whole: {shown.stderr}"] if shown.returncode else []
    if sum(one["active"] for one in listed) != 1:
        faults.append("no version is active")
    # By its name: the base does not answer in its place.
    line = f"{repository / 'sum.py'}:2:{len(CODE.splitlines()[1])}"
    done = run(home, "complete", line, "--adapter", "python", "--json")
    return faults + ([f"nobody completes: {done.stderr}"] if done.returncode else [])


def left(home: Path, repository: Path) -> list[str]:
    """What is there after ``doctor --fix`` and should not be."""
    run(home, "doctor", "--fix")
    checks = json.loads(run(home, "doctor", "--json").stdout)["checks"]
    faults = [one["found"] for one in checks if one["name"] == "adapters" and not one["ok"]]
    expected: set[Path] = set()
    (registry,) = (home / "data" / "adapters").iterdir()
    for one in kill.asked(home, "list", "--repo", str(repository))["adapters"]:
        name = f"{one['name']}/{one['version']}"
        shown = kill.asked(home, "show", name, "--repo", str(repository))
        expected |= {registry / name / file for file in {*shown["artefacts"], *NOT_IN_MANIFEST}}
    files = {path for path in registry.rglob("*") if not path.is_dir()}
    odd = {path for path in files - expected if path.name not in BESIDE_VERSIONS}
    odd |= set((home / "cache" / "training").rglob("*.part"))
    return faults + [f"{path} is left" for path in sorted(odd)] + [
        f"{path} is missing" for path in sorted(expected - files)
    ]  # fmt: skip


def run(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of the product, whatever comes of it."""
    return subprocess.run(
        [bars.PROGRAM, *arguments], env=kill.environment(home), capture_output=True, text=True,
        check=False,
    )  # fmt: skip


def copy(source: Path, target: Path) -> None:
    """Replace what a run works on."""
    for part in KEPT:
        shutil.rmtree(target / part, ignore_errors=True)
        shutil.copytree(source / part, target / part)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--layers", type=int, default=4, help="of the base; the starter has 30")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--budget", default="60s")
    parser.add_argument("--repo", type=Path, default=bars.ROOT / "flex_assist")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dry", action="store_true", help="write no figures")
    given = parser.parse_args()
    found = measure(given)
    if given.dry:
        print(json.dumps(found, indent=2))
    else:
        bars.write("kill_export", {"command": bars.command("kill-export"), **found})
    sys.exit(0 if found["good"] == found["kills"] else 1)
