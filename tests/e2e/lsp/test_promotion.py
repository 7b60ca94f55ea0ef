"""An adapter becomes active while an editor works: the next completion uses it, no restart."""

import json
import shutil
import subprocess
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flex_assist.adapters.registry import Registry
from flex_assist.locations import locate

INLINE = "textDocument/inlineCompletion"
MODEL_WAIT_S = 120.0
FLEX_ASSIST = str(Path(sysconfig.get_path("scripts")) / "flex-assist")
TEXT = "RED = 1\nGREEN = 2\n\n\ndef is_red(colour):\n    return colour =="


def test_a_running_server_takes_the_promoted_version(
    start: Callable[..., Any],
    params: Callable[..., dict[str, Any]],
    promote: Callable[..., Any],
    make_adapter: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    home: Path,
) -> None:
    monkeypatch.setenv("FLEX_ASSIST_HOME", str(home))
    repository = tmp_path / "repository"
    (repository / ".git").mkdir(parents=True)
    registry = Registry(locate(), repository)
    client = start("lsp", "--stdio", program=FLEX_ASSIST)
    folder = {"uri": repository.as_uri(), "name": "repository"}
    options = {"completion": {"timeoutS": MODEL_WAIT_S}}
    client.initialize(workspaceFolders=[folder], initializationOptions=options)
    uri = (repository / "colours.py").as_uri()
    client.open(uri, TEXT)

    def completed() -> tuple[str, set[str]]:
        """Who answers the next completion, and the adapters' files that the engine then holds."""
        identity = client.ask(INLINE, params(uri, 5, 20))
        client.until(lambda m: m.get("id") == identity, MODEL_WAIT_S)
        assert "result" in client.answer(identity)
        why = client.request("workspace/executeCommand", {"command": "flex-assist.why"})
        command = [FLEX_ASSIST, "engine", "status", "--json"]
        status = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        assert status["idle_s"] >= 0
        paths = [path for one in status["contexts"] for path in one["adapters"]]
        held = {Path(path).parent.name for path in paths}
        return why["completion"]["adapter"], held

    assert completed() == ("base", set())
    for seed in (1, 2):
        lora = make_adapter("small", seed, size=0.001)
        found = promote(registry, write=lambda path, lora=lora: shutil.copyfile(lora, path))
        adapter, held = completed()
        assert adapter == "python"
        assert found.manifest.version in held
    # Without one the base answers again.
    registry.deactivate("python")
    assert completed()[0] == "base"
    assert client.process.poll() is None
    assert client.leave() == 0
