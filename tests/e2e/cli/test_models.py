"""A model of one's own, from `models add` to a completion, in processes of their own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from flex_assist.models import store
from flex_assist.models.quantized import write_model

PROGRAM = str(Path(sys.executable).parent / "flex-assist")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def one_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEX_ASSIST_HOME", str(home))
    monkeypatch.setenv("FLEX_ASSIST_MODEL_BASE", "mine.v1")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, *arguments], capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The starter with the first of its layers only."""
    path = tmp_path_factory.mktemp("base") / "mine.v1.gguf"
    write_model(store.find("smollm2-135m").path, path, metadata={"llama.block_count": 1})
    return path


def test_a_model_is_added_used_and_refused_when_it_changed(file: Path, tmp_path: Path) -> None:
    code = tmp_path / "a.py"
    code.write_text("def add(a, b):\n    return a + b\n")
    place = f"{code}:2:12"
    assert "unknown base model" in run("complete", place).stderr
    added = run("models", "add", str(file), "--json")
    assert added.returncode == 0, added.stderr
    assert json.loads(added.stdout)["name"] == "mine.v1"
    answer = run("complete", place, "--json")
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["prompt_tokens"] > 0
    listed = json.loads(run("models", "list", "--json").stdout)["models"]
    assert {one["name"]: one["status"] for one in listed}["mine.v1"] == "installed"
    with file.open("ab") as grown:
        grown.write(b"more")
    refused = run("complete", place)
    assert refused.returncode == 1
    assert "as when it came" in refused.stderr
    checks = json.loads(run("doctor", "--json").stdout)["checks"]
    (fault,) = [check for check in checks if check["name"] == "model mine.v1"]
    assert not fault["ok"]
    assert run("models", "remove", "mine.v1").returncode == 0
    assert file.is_file()
    run("engine", "stop")
