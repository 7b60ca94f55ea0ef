"""Whether the installed llama.cpp computes is found out in a process that may die."""

import signal
import sys
from pathlib import Path

import pytest

from flex_assist.engine import trial
from flex_assist.errors import EngineError
from flex_assist.models import store


def test_a_good_build_reads_and_writes() -> None:
    trial.check(store.find("smollm2-135m").path)


def test_a_damaged_model_is_told_as_such(tmp_path: Path) -> None:
    damaged = tmp_path / "model.gguf"
    damaged.write_bytes(b"GGUF" + b"\3\0\0\0" + b"\xff" * 64)
    with pytest.raises(EngineError, match="model"):
        trial.check(damaged)


def test_a_build_that_dies_is_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    dying = f"import os; os.kill(os.getpid(), {int(signal.SIGILL)})"
    monkeypatch.setattr(trial, "own_command", lambda *_: [sys.executable, "-c", dying])
    with pytest.raises(EngineError, match=r"(?s)dies here \(SIGILL\).*mno-amx-tile"):
        trial.check(Path("model.gguf"))
