"""Runs of ``adapt`` that are stopped and killed, on a base of few layers that trains in seconds."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

PROGRAM = str(Path(sys.executable).parent / "flex-assist")
ADAPTED = ("--steps", "8", "--budget", "60s")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def shallow(
    home: Path, cut_starter: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEX_ASSIST_HOME", str(home))
    monkeypatch.setenv("FLEX_ASSIST_MODEL_BASE", str(cut_starter(4)))


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory, copy_core: Callable[[Path], Path]) -> Path:
    """This project's core, as a repository of its own."""
    return copy_core(tmp_path_factory.mktemp("repository") / "core")


def run(*arguments: str, timeout_s: float = 280) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, *arguments], capture_output=True, text=True, timeout=timeout_s, check=False
    )


def events(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


@pytest.fixture
def adapted(repository: Path, shallow: None) -> None:
    """A run that nobody stopped, once for all tests."""
    if not json.loads(run("adapters", "list", "--repo", str(repository), "--json").stdout)[
        "adapters"
    ]:
        done = run("adapt", str(repository), *ADAPTED)
        assert done.returncode in (0, 3), done.stderr


def test_ctrl_c_keeps_a_checkpoint_and_resume_goes_on(repository, adapted):
    before = run("adapters", "list", "--repo", str(repository), "--json").stdout
    options = ["--steps", "6", "--budget", "40s", "--progress", "json"]
    command = [PROGRAM, "adapt", str(repository), *options]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            event = json.loads(line) if line.startswith("{") else {"phase": ""}
            if event["phase"] == "train" and event["step"] >= 2:
                break
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(60) == 130, rest
    assert "--resume" in rest
    # Nothing that was there has changed.
    assert run("adapters", "list", "--repo", str(repository), "--json").stdout == before
    stopped = next(
        int(word) for word in rest.split("stopped at step ")[1].split() if word.isdigit()
    )
    done = run("adapt", str(repository), "--resume", "--json", "--progress", "json")
    assert done.returncode in (0, 3), done.stderr
    steps = [event["step"] for event in events(done.stderr) if event["phase"] == "train"]
    assert steps[0] == stopped + 1
    again = run("adapt", str(repository), "--resume")
    assert again.returncode == 1
    assert "no interrupted run" in again.stderr


def weights(repository) -> list[str]:
    """Digests of the files of all versions, oldest first."""
    listed = json.loads(run("adapters", "list", "--repo", str(repository), "--json").stdout)
    found = []
    for version in sorted(one["version"] for one in listed["adapters"]):
        shown = run("adapters", "show", f"python/{version}", "--repo", str(repository), "--json")
        artefacts = json.loads(shown.stdout)["artefacts"]
        found.append("".join(artefacts[name] for name in sorted(artefacts)))
    return found


def test_kill_leaves_the_old_state_and_resume_ends_at_the_same_weights(repository, adapted):
    """The run of ``adapted`` again, killed when it has just been trained."""
    before = weights(repository)
    with subprocess.Popen(
        [PROGRAM, "adapt", str(repository), *ADAPTED, "--progress", "json"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("{") and json.loads(line)["phase"] == "export":
                break
        process.kill()
    assert weights(repository) == before
    done = run("adapt", str(repository), "--resume", "--json", "--progress", "json")
    assert done.returncode in (0, 3), done.stderr
    # Nothing was trained again.
    assert not [event for event in events(done.stderr) if event["phase"] == "train"]
    assert weights(repository) == [*before, before[0]]
    place = f"{repository / 'errors.py'}:30:1"
    assert run("complete", place, "--json").returncode == 0


def test_resume_takes_no_other_wishes(repository, adapted):
    done = run("adapt", str(repository), "--resume", "--seed", "3")
    assert done.returncode == 2
    assert "--resume goes on with what was asked for" in done.stderr
