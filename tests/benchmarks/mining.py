"""Mining at scale: a tree of 100,000 files in bounded time and memory; secrets without losses."""

import argparse
import contextlib
import hashlib
import importlib
import json
import os
import random
import resource
import subprocess
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import bars
import mining_tree
import psutil

from flex_assist.language import by_path
from flex_assist.repository import secret_detectors
from flex_assist.repository.partition import MAX_OF_CLUSTER

CORES = 2
MAX_S, MAX_MB = 600, 2000
SAMPLE_S = 0.2
LONG_LINE_SHARE = 0.2
USED = ("kept", "test", "tune", "recent", "near-duplicate")
VARIANTS = ("plain", "git")


def scale(files: int, megabytes: int, seed: int, variants: list[str], folder: Path | None) -> int:
    """Measure ``adapt --dry-run`` on a large tree; writes ``docs/bars/mining_scale.json``."""
    with TemporaryDirectory(prefix="flex-assist-scale-", dir=folder) as name:
        tree, home = Path(name) / "tree", Path(name) / "home"
        started = time.monotonic()
        plan = mining_tree.make(tree, files, megabytes, seed)
        print(f"made in {time.monotonic() - started:.0f} s", file=sys.stderr)
        found = {}
        for variant in variants:
            if variant == "git":
                commit(tree)
            figures, record = dry_run(tree, home)
            found[variant] = {**figures, **verdicts(plan, record), "listing": record["listing"]}
            print(json.dumps(found[variant]), file=sys.stderr)
    met = all(
        one["seconds"] <= MAX_S
        and one["peak_mb"] <= MAX_MB
        and one["progress_lines"] > 0
        and one["secrets_missed"] == one["copies_missed"] == one["near_copies_missed"] == 0
        for one in found.values()
    )
    # The same files give the same verdicts, whoever lists them.
    same = len({one["verdicts_sha256"] for one in found.values()}) == 1
    bars.write(
        "mining_scale",
        {
            "command": bars.command("mining"),
            "bar": {"seconds": MAX_S, "peak_mb": MAX_MB, "cores": CORES, "met": met and same},
            "tree": {
                "files": plan.files,
                "megabytes": round(plan.total_bytes / 1e6, 1),
                "copies": len(plan.copies),
                "near_copies": sum(map(len, plan.near_copies)) - len(plan.near_copies),
                "secrets": len(plan.secrets),
                "seed": seed,
            },
            "same_verdicts": same,
            "variants": found,
        },
    )
    return 0 if met and same else 1


def commit(tree: Path) -> None:
    """Make the tree a checkout."""
    identity = ["-c", "user.name=n", "-c", "user.email=n@example.org", "-c", "gc.auto=0"]
    for step in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "all"]):
        # Not compressed: nobody measures git.
        command = ["git", "-C", str(tree), *identity, "-c", "core.compression=0", *step]
        subprocess.run(command, check=True)


def dry_run(tree: Path, home: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Figures of one run, and what it printed."""
    home.mkdir(exist_ok=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    with (home / "out.json").open("wb") as out, (home / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            [bars.PROGRAM, "adapt", str(tree), "--dry-run", "--json"],
            stdout=out,
            stderr=log,
            env={**os.environ, "FLEX_ASSIST_HOME": str(home)},
        )
        peak, most = 0, 0
        while process.poll() is None:
            resident = list(memory(process.pid))
            peak, most = max(peak, sum(resident)), max(most, len(resident))
            time.sleep(SAMPLE_S)
    seconds = time.monotonic() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    said = (home / "log.txt").read_text()
    assert process.returncode == 0, said
    record = json.loads((home / "out.json").read_text())
    figures = {
        "seconds": round(seconds, 1),
        "cpu_s": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        "peak_mb": round(peak / 1e6),
        "processes": most,
        "files_per_s": round(len(record["files"]) / seconds),
        "progress_lines": sum(line.startswith("mine: ") for line in said.splitlines()),
        "load_average": round(os.getloadavg()[0], 1),
    }
    return figures, record


def memory(pid: int) -> Iterator[int]:
    """Resident bytes of a process and all that it started; shared pages count in each."""
    with contextlib.suppress(psutil.NoSuchProcess):
        first = psutil.Process(pid)
        for one in (first, *first.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                yield one.memory_info().rss


def verdicts(plan: mining_tree.Plan, record: dict[str, Any]) -> dict[str, Any]:
    """Whether what was planted was found, and what else was objected to."""
    rules = {one["path"]: one["rule"] for one in record["files"]}
    assert len(rules) == plan.files, (len(rules), plan.files)
    # Of two copies either may stand for both.
    copies = [
        path
        for path, original in plan.copies.items()
        if rules[path] in USED and rules[original] in USED
    ]
    # Some groups are left out whole, e.g. for a folder that is called "build".
    used = (sum(rules[path] in USED[:-1] for path in group) for group in plan.near_copies)
    near = sum(max(0, count - MAX_OF_CLUSTER) for count in used)
    planted = {*plan.copies, *plan.copies.values(), *(p for g in plan.near_copies for p in g)}
    alarms = Counter(
        rule
        for path, rule in rules.items()
        if (rule in ("copy", "near-duplicate") and path not in planted)
        or (rule == "secret" and path not in plan.secrets)
    )
    shown = json.dumps([[one["path"], one["rule"], one["value"]] for one in record["files"]])
    return {
        "secrets_missed": sum(rules[path] in USED for path in plan.secrets),
        "copies_missed": len(copies),
        "near_copies_missed": near,
        "not_planted": dict(alarms),
        "rules": dict(Counter(rules.values()).most_common()),
        "verdicts_sha256": hashlib.sha256(shown.encode()).hexdigest(),
    }


def prefilter(corpora: list[Path], megabytes: int, seed: int) -> int:
    """Compare the gates with detect-secrets itself; writes ``docs/bars/mining_prefilter.json``."""
    detectors = plugins()
    rng = random.Random(seed)
    seconds, found, kinds = Counter[str](), Counter[str](), Counter[str]()
    lost: list[tuple[str, str, int]] = []
    size = added = 0
    for path, text in texts(corpora, megabytes, rng):
        size += len(text)
        kind = rng.choice(sorted(mining_tree.SECRETS))
        kinds[kind] += 1
        line = mining_tree.SECRETS[kind](rng)
        if rng.random() < LONG_LINE_SHARE:
            around = " ".join(text[: rng.randrange(20_000)].split())
            line = f"{around} {line} {around}"
        text = mining_tree.with_line(text, line, rng)
        started = time.process_time()
        reference = line_by_line(text, detectors)
        seconds["detect-secrets"] += time.process_time() - started
        started = time.process_time()
        ours = list(secret_detectors.find_tokens(text, secret_detectors.fold(text)))
        seconds["gated"] += time.process_time() - started
        by_line = [(rule, text.count("\n", 0, start), text[start:end]) for rule, start, end in ours]
        found["detect-secrets"] += len(reference)
        found["gated"] += len(ours)
        places = {(rule, line) for rule, line, _ in reference}
        added += sum((rule, line) not in places for rule, line, _ in by_line)
        for rule, line, value in reference:
            if not any((rule, line) == other[:2] and value in other[2] for other in by_line):
                # Not the value: nobody knows what a folder holds.
                lost.append((rule, str(path), line + 1))
    bars.write(
        "mining_prefilter",
        {
            "command": bars.command("mining"),
            "bar": {"lost": 0, "met": not lost},
            "megabytes": round(size / 1e6, 1),
            "files": sum(kinds.values()),
            "planted": dict(sorted(kinds.items())),
            "found": dict(found),
            "lost": lost,
            "added": added,
            "seconds": {name: round(taken, 1) for name, taken in seconds.items()},
            "times_as_fast": round(seconds["detect-secrets"] / seconds["gated"], 1),
        },
    )
    return 1 if lost else 0


def plugins() -> list[tuple[str, Any]]:
    """The detectors as detect-secrets has them."""
    found = []
    for module, name in secret_detectors._DETECTORS:
        kind = getattr(importlib.import_module(f"detect_secrets.plugins.{module}"), name)
        found.append((kind.secret_type.lower().replace(" ", "-"), kind()))
    return found


def line_by_line(text: str, detectors: list[tuple[str, Any]]) -> list[tuple[str, int, str]]:
    """Rule, line and value of what detect-secrets finds; some of its values are empty."""
    return [
        (rule, number, value)
        for number, line in enumerate(text.split("\n"))
        for rule, plugin in detectors
        for value in plugin.analyze_string(line)
    ]


def texts(corpora: list[Path], megabytes: int, rng: random.Random) -> Iterator[tuple[Path, str]]:
    """Source files below the folders, drawn at random, until there are so many megabytes."""
    paths = sorted(path for one in corpora for path in one.rglob("*") if by_path(path.name))
    rng.shuffle(paths)
    left = megabytes * 1_000_000
    for path in paths:
        if left <= 0:
            return
        with contextlib.suppress(OSError, UnicodeDecodeError):
            text = path.read_text(encoding="utf-8")
            left -= len(text)
            yield path, text


def main() -> int:
    """Take the measure that is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    commands = parser.add_subparsers(dest="command", required=True)
    large = commands.add_parser("scale")
    large.add_argument("--files", type=int, default=100_000)
    large.add_argument("--megabytes", type=int, default=1000)
    large.add_argument("--variant", choices=(*VARIANTS, "both"), default="both")
    large.add_argument("--folder", type=Path, help="where to make the tree (2.5 GB)")
    compared = commands.add_parser("prefilter")
    compared.add_argument("--corpus", type=Path, action="append")
    compared.add_argument("--megabytes", type=int, default=20)
    given = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    if given.command == "prefilter":
        corpora = given.corpus or [
            Path(sysconfig.get_paths()[one]) for one in ("stdlib", "purelib")
        ]
        return prefilter(corpora, given.megabytes, given.seed)
    variants = list(VARIANTS) if given.variant == "both" else [given.variant]
    return scale(given.files, given.megabytes, given.seed, variants, given.folder)


if __name__ == "__main__":
    sys.exit(main())
