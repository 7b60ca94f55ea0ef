"""Processes that are started in a repository import nothing of it."""

import subprocess
import sys
from pathlib import Path

import pytest

from flex_assist.adapters.traces import Trace
from flex_assist.config import Settings
from flex_assist.errors import DataError
from flex_assist.processes import own_command
from flex_trainer.forget import Removed
from flex_trainer.forget_cli import _train


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Appears when a module of the current folder is run."""
    path = tmp_path / "EXECUTED"
    for name in ("json", "typer", "torch", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text(f"open({str(path)!r}, 'w').close()\n")
    monkeypatch.chdir(tmp_path)
    return path


def test_our_own_modules_are_run(canary: Path) -> None:
    done = subprocess.run(own_command("flex_assist", "--help"), capture_output=True, check=False)
    assert done.returncode == 0
    assert not canary.exists()
    # As Python does by itself.
    subprocess.run(
        [sys.executable, "-m", "flex_assist", "--help"], capture_output=True, check=False
    )
    assert canary.exists()


def test_training_after_forgetting(canary: Path) -> None:
    trace = Trace(name="python", version="20260101T000000Z-0001", languages=("python",))
    removed = Removed(paths=("a.py",), traces=(trace,), active=(), checkpoints=False)
    # There is no such repository, so adapt ends at once.
    with pytest.raises(DataError, match="training anew failed"):
        _train(removed, canary.parent / "nowhere", Settings())
    assert not canary.exists()
