"""A disk that fills up while ``adapt`` exports: nothing is lost, and with more space it goes on."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PROGRAM = str(Path(sys.executable).parent / "flex-assist")
MEGABYTE = 1 << 20
# The base that is served (30 MB in 8 bits) and checkpoints fit, a merged file beside them does not.
SMALL_MB, LARGE_MB = 45, 4000


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={SMALL_MB}m", "tmpfs", str(folder)]
    if subprocess.run(["mount", *options], capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_adapt_on_a_full_disk_loses_nothing_and_goes_on(
    disk: Path,
    tmp_path: Path,
    copy_core: Callable[[Path], Path],
    cut_starter: Callable[[int], Path],
) -> None:
    repository = copy_core(tmp_path / "core")
    environment = {
        **os.environ,
        "FLEX_ASSIST_HOME": str(disk / "home"),
        "FLEX_ASSIST_MODEL_BASE": str(cut_starter(1)),
    }

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [PROGRAM, *arguments], env=environment, capture_output=True, text=True, timeout=280,
            check=False,
        )  # fmt: skip

    stopped = run("adapt", str(repository), "--steps", "4", "--budget", "60s")
    assert stopped.returncode == 1, stopped.stderr
    # Before it is written, or while it is.
    assert "MB free; make room" in stopped.stderr or "free some space" in stopped.stderr
    assert "go on with `flex-assist adapt --resume`" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    listed = run("adapters", "list", "--repo", str(repository), "--json")
    assert json.loads(listed.stdout)["adapters"] == []

    subprocess.run(["mount", "-o", f"remount,size={LARGE_MB}m", str(disk)], check=True)
    assert run("doctor", "--fix").returncode == 0
    left = [path for path in (disk / "home").rglob("*") if path.name.endswith(".part")]
    assert left == []
    done = run("adapt", str(repository), "--resume", "--progress", "json")
    assert done.returncode in (0, 3), done.stderr
    told = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    assert not [event for event in told if event["phase"] == "train"]
    (made,) = json.loads(run("adapters", "list", "--repo", str(repository), "--json").stdout)[
        "adapters"
    ]
    assert run("adapters", "show", f"python/{made['version']}", "--verify", "--repo",
               str(repository)).returncode == 0  # fmt: skip
