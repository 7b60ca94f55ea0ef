"""`flex-assist watch` as a user runs it: a process of its own on a small repository of git."""

import importlib.metadata
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from flex_assist.adapters.registry import Registry
from flex_assist.config import MiningSettings
from flex_assist.locations import locate, repository_id
from flex_assist.repository.snapshot import take_snapshot

WAIT_S = 60.0
TRAINING_WAIT_S = 200.0
GIT = ["git", "-c", "user.name=n", "-c", "user.email=n@example.org", "-c", "core.hooksPath=/none"]
EAGER = {
    "FLEX_ASSIST_WATCH_CHANGED_FILES": "3",
    "FLEX_ASSIST_WATCH_CHANGED_SHARE": "1",
    "FLEX_ASSIST_WATCH_QUIET_S": "0.3",
    "FLEX_ASSIST_WATCH_MIN_INTERVAL_S": "0",
    "FLEX_ASSIST_WATCH_WHEN_IDLE": "false",
    "FLEX_ASSIST_WATCH_ON_MAINS": "false",
    "FLEX_ASSIST_TRAINING_STEPS": "4",
    "FLEX_ASSIST_TRAINING_BUDGET": "25s",
}
pytestmark = pytest.mark.skipif(
    not importlib.metadata.entry_points(group="flex_assist.commands", name="watch"),
    reason="the installed distribution has no command watch; install it again",
)


class Watching:
    """A process that watches; what it tells is kept."""

    def __init__(self, repository: Path, *arguments: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "flex_assist", "watch", str(repository), "--json", *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, **EAGER, **environment},
        )  # fmt: skip
        self.told: list[dict[str, Any]] = []
        self.stderr: list[str] = []
        self._arrived = threading.Condition()
        self._seen = 0
        self._readers = [threading.Thread(target=work) for work in (self._read, self._drain)]
        for reader in self._readers:
            reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._arrived:
                self.told.append(json.loads(line))
                self._arrived.notify_all()

    def _drain(self) -> None:
        assert self.process.stderr is not None
        self.stderr += self.process.stderr

    def until(self, event: str, wait_s: float = WAIT_S, **facts: Any) -> dict[str, Any]:
        """The next event of this kind, after those that were waited for before."""
        end_s = time.monotonic() + wait_s
        with self._arrived:
            while True:
                while self._seen < len(self.told):
                    found = self.told[self._seen]
                    self._seen += 1
                    if found["event"] == event and facts.items() <= found.items():
                        return found
                left_s = end_s - time.monotonic()
                assert left_s > 0, f"no {event} in {wait_s:g} s: {self.told[-5:]}"
                assert self._readers[0].is_alive(), f"it ended: {self.told[-3:]} {self.stderr}"
                self._arrived.wait(min(left_s, 0.2))

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for reader in self._readers:
            reader.join()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()


@pytest.fixture
def watching() -> Iterator[Callable[..., Watching]]:
    made: list[Watching] = []

    def start(*arguments: Any, **environment: str) -> Watching:
        made.append(Watching(*arguments, **environment))
        return made[-1]

    yield start
    for one in made:
        one.close()


@pytest.fixture
def repository(tmp_path: Path, copy_core: Callable[[Path], Path]) -> Path:
    """This project's core, committed."""
    root = copy_core(tmp_path / "core")
    git(root, "init", "-q", "-b", "main")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "all")
    return root


@pytest.fixture
def adapted(repository: Path, promote: Callable[..., Any]) -> Registry:
    """The repository was adapted to as it is; nobody has trained for it, though."""
    snapshot = take_snapshot(repository, MiningSettings(), seed=0)
    data = [
        {"path": one.path, "sha256": one.sha256, "verdict": "train", "rule": "kept"}
        for one in snapshot.documents()
    ]
    registry = Registry(locate(), repository)
    promote(registry, version="20260101T000000Z-0001", data=data)
    return registry


def git(root: Path, *arguments: str) -> None:
    subprocess.run([*GIT, "-C", str(root), *arguments], check=True, capture_output=True)


def change(repository: Path, *names: str) -> None:
    for name in names:
        with (repository / name).open("a") as file:
            file.write(f"\n\nNEWS_OF_{name.split('.')[0].upper()} = 'a new line'\n")


def test_it_counts_what_changed_and_nothing_twice(repository, adapted, watching):
    watch = watching(repository, FLEX_ASSIST_WATCH_CHANGED_FILES="99")
    assert watch.until("watching")["folders"] > 5
    assert watch.until("looked")["files"] == 0
    assert "too little has changed" in watch.until("waiting")["text"]

    change(repository, "errors.py", "files.py")
    assert watch.until("looked")["languages"] == {"python": 2}
    # There and back again, and a save without a change.
    git(repository, "stash", "-q")
    assert watch.until("looked")["files"] == 0
    git(repository, "stash", "pop", "-q")
    assert watch.until("looked")["files"] == 2
    (repository / "errors.py").write_text((repository / "errors.py").read_text())
    assert watch.until("looked")["files"] == 2
    (repository / "engine").rename(repository / "motor")
    assert watch.until("looked")["files"] == 2
    # A file in the renamed folder is still followed.
    time.sleep(3)
    change(repository, "motor/wire.py")
    assert watch.until("looked")["files"] == 3

    second = subprocess.run(
        [sys.executable, "-m", "flex_assist", "watch", str(repository)],
        capture_output=True, text=True, timeout=WAIT_S,
    )  # fmt: skip
    assert second.returncode == 1
    assert "in use by another process" in second.stderr
    memory = psutil.Process(watch.process.pid).memory_info().rss / 1e6
    loaded = Path(f"/proc/{watch.process.pid}/maps")
    assert memory < 150
    assert not loaded.exists() or "torch" not in loaded.read_text()

    shutil.rmtree(repository)
    assert "has gone" in watch.until("gone")["text"]
    assert watch.process.wait(WAIT_S) == 1


def test_what_changed_while_nobody_watched_is_known(repository, adapted, watching):
    change(repository, "errors.py", "files.py")
    watch = watching(repository, "--once")
    assert watch.until("looked")["files"] == 2
    assert "too little" in watch.until("done")["text"]
    assert watch.process.wait(WAIT_S) == 0


def test_without_an_adapter_it_says_what_to_do(repository, watching):
    watch = watching(repository)
    assert "--now" in watch.until("waiting")["text"]
    watch.process.send_signal(signal.SIGINT)
    assert watch.process.wait(WAIT_S) == 130


def ended(pid: int) -> None:
    end_s = time.monotonic() + WAIT_S
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < end_s, f"process {pid} goes on unobserved"
        time.sleep(0.1)


@pytest.mark.timeout(600)
def test_it_adapts_and_survives_being_stopped(
    repository, adapted, watching, cut_starter, monkeypatch
):
    monkeypatch.setenv("FLEX_ASSIST_MODEL_BASE", str(cut_starter(4)))
    asked = locate().training(repository_id(repository)) / "asked.json"
    change(repository, "errors.py", "files.py", "locks.py", "config.py")
    # Killed in the middle: what it had started stops by itself, with a checkpoint.
    watch = watching(repository)
    assert watch.until("looked")["files"] == 4
    run = watch.until("adapting")
    assert run["resumed"] is False
    assert psutil.Process(run["process"]).nice() == 10
    watch.until("progress", TRAINING_WAIT_S, phase="train", step=1)
    watch.process.kill()
    ended(run["process"])
    assert asked.is_file()

    # The next one goes on with it, and passes Ctrl-C on.
    watch = watching(repository)
    run = watch.until("adapting")
    assert run["resumed"] is True
    step = watch.until("progress", TRAINING_WAIT_S, phase="train")["step"]
    assert step >= 2
    watch.process.send_signal(signal.SIGINT)
    assert watch.process.wait(WAIT_S) == 130
    assert not psutil.pid_exists(run["process"])
    assert asked.is_file()

    watch = watching(repository)
    assert watch.until("adapting")["resumed"] is True
    watch.until("progress", TRAINING_WAIT_S, phase="done")
    assert "too little has changed" in watch.until("waiting")["text"]
    names = [event["event"] for event in watch.told]
    assert ("promoted" in names) != ("refused" in names)
    newest = adapted.versions("python")[-1].manifest
    assert newest.version != "20260101T000000Z-0001"
    # The version before was of another base, so this one began anew.
    assert newest.parent is None
    # It counts anew from what that run has seen.
    change(repository, "language.py")
    assert watch.until("looked")["files"] == 1
