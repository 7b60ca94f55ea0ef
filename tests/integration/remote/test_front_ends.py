"""From the user's settings file to a server, through each front end."""

import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from flex_assist import config
from flex_assist.adapters.registry import AdapterVersion, Registry
from flex_assist.chat.conversations import Message
from flex_assist.chat.service import Answered, ChatService
from flex_assist.complete.request import CompletionRequest
from flex_assist.complete.service import CompletionService
from flex_assist.config import REPOSITORY_FILE
from flex_assist.engine.choice import open_engine
from flex_assist.engine.client import HostEngine
from flex_assist.engine.remote.engine import RemoteEngine
from flex_assist.locations import Locations, locate
from flex_lsp.services import EngineBackend

from .conftest import KEY
from .stand_in import DONE, StandIn, stream, text

PROGRAM = str(Path(sys.executable).parent / "flex-assist")
SOURCE = "def first(items):\n    return items[0]\n\n\ndef second(items):\n    return items"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "app.py").write_text(SOURCE)
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    return folder


@pytest.fixture
def locations(base: Path, monkeypatch: pytest.MonkeyPatch) -> Locations:
    monkeypatch.setenv("TEST_KEY", KEY)
    monkeypatch.setenv("FLEX_ASSIST_MODEL_BASE", str(base))
    monkeypatch.setenv("FLEX_ASSIST_ENGINE_THREADS", "1")
    monkeypatch.setenv("FLEX_ASSIST_COMPLETION_MAX_TOKENS", "8")
    monkeypatch.setenv("FLEX_ASSIST_CHAT_MAX_TOKENS", "8")
    monkeypatch.setenv("FLEX_ASSIST_PROMPT_PREFIX_TOKENS", "64")
    monkeypatch.setenv("FLEX_ASSIST_ENGINE_CONTEXT_TOKENS", "512")
    monkeypatch.setenv("FLEX_ASSIST_ENGINE_IDLE_EXIT_S", "5")
    found = locate()
    found.config.mkdir(parents=True)
    return found


@pytest.fixture
async def server() -> AsyncIterator[StandIn]:
    stand_in = StandIn(behaviours=[stream(text("x", "stop"), DONE)])
    serving = await stand_in.start()
    yield stand_in
    serving.close()


def opt_in(locations: Locations, root: Path, url: str, more: str = "") -> None:
    locations.config_file.write_text(
        f'[remote."{root}"]\nurl = "{url}"\napi_key_env = "TEST_KEY"\n{more}\n'
    )


def adapt(
    locations: Locations, root: Path, base: Path, lora: Path,
    promote: Callable[..., AdapterVersion],
) -> None:  # fmt: skip
    registry = Registry(locations, root)
    promote(
        registry, "python", base_model=base.stem, write=lambda path: shutil.copyfile(lora, path)
    )


def run(*arguments: str) -> Any:
    done = subprocess.run(
        [PROGRAM, *arguments, "--json"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode in (0, 1), done.stderr
    return json.loads(done.stdout)


async def test_the_command_line_asks_the_server_for_the_adapter(
    locations: Locations, root: Path, url: str, base: Path, adapters: tuple[Path, Path],
    promote: Callable[..., AdapterVersion],
) -> None:  # fmt: skip
    adapt(locations, root, base, adapters[0], promote)
    place = f"{root / 'app.py'}:6:17"
    here = run("complete", place)
    opt_in(locations, root, url)
    there = run("complete", place)
    host = url.removeprefix("http://").removesuffix("/v1")
    assert here["form"] == "adapter"
    assert there["form"] == "remote"
    assert there["adapter"] == here["adapter"] == "python"
    assert there["reason"].endswith(f"computed by 'python' at {host}")
    assert there["completion"] == here["completion"]
    checks = {one["name"]: one for one in run("doctor")["checks"]}
    assert checks["server of shop"]["ok"]
    assert checks["server of shop"]["found"] == (
        f"{host}: llama.cpp with cut, adapters go, python; prompts as token ids"
    )
    locations.config_file.write_text(f'[remote."{root}"]\nurl = "http://127.0.0.1:9/v1"\n')
    failed = {one["name"]: one for one in run("doctor")["checks"]}["server of shop"]
    assert not failed["ok"]
    assert "127.0.0.1:9 cannot be reached" in failed["advice"]


async def test_an_untrusted_repository_sends_nothing(
    locations: Locations, root: Path, server: StandIn
) -> None:
    """It names a server of its own: nothing is asked of it, and somebody is told."""
    for own in (f'[remote."{root}"]\nurl = "{server.url}"', f'[remote]\nurl = "{server.url}"'):
        (root / REPOSITORY_FILE).write_text(own)
        done = subprocess.run(
            [PROGRAM, "complete", f"{root / 'app.py'}:6:17"],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 2
        assert "may not be set by a repository" in done.stderr
    assert server.connections == 0


async def test_the_choice_is_made_in_one_place(
    locations: Locations, root: Path, url: str, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    opt_in(locations, root, url)
    mine, theirs = config.load(locations, root), config.load(locations, other)
    assert isinstance(open_engine(locations, mine), RemoteEngine)
    assert isinstance(open_engine(locations, theirs), HostEngine)
    # Two folders in one editor: each its own.
    backend = EngineBackend(locations)
    await backend.prepare()
    services: list[Any] = [
        backend.service(settings, place) for settings, place in ((mine, root), (theirs, other))
    ]
    kinds = [type(service._engine) for service in services]
    assert kinds == [RemoteEngine, HostEngine]
    await backend.close()


async def test_a_completion_that_must_stay(
    locations: Locations, root: Path, server: StandIn
) -> None:
    (root / ".gitignore").write_text(".env\n")
    (root / ".env").write_text("A=1\n")
    opt_in(locations, root, server.url)
    settings = config.load(locations, root)
    engine = open_engine(locations, settings)
    service = CompletionService(engine=engine, settings=settings, locations=locations, root=root)
    for path, before in (
        (".env", "A="),
        ("app.py", 'KEY = "AKIAQYLPMN5HHHFPZAM2"\n' * 2 + "x = 1\n" * 300),
    ):
        found = await service.complete(CompletionRequest(before=before, after="\n", path=path))
        assert found.form == "base"
        assert "computed on this machine: " in found.reason
        assert found.warning == ""
    assert server.completions == []
    found = await service.complete(CompletionRequest(before=SOURCE, after="\n", path="app.py"))
    assert found.form == "remote"
    assert server.completions
    await engine.close()
    await HostEngine(locations, settings.engine).stop_host()


async def test_a_chat(locations: Locations, root: Path, url: str) -> None:
    opt_in(locations, root, url)
    settings = config.load(locations, root)
    engine = open_engine(locations, settings)
    service = ChatService(engine, settings, locations, root)
    said = [Message(role="user", text="What does `first` do? @app.py")]
    items = [item async for item in service.answer(said)]
    ended = items[-1]
    assert isinstance(ended, Answered)
    assert "computed by 'cut' at 127.0.0.1" in ended.served
    assert ended.text
    secret = [Message(role="user", text="What is AKIAQYLPMN5HHHFPZAM2?")]
    items = [item async for item in service.answer(secret)]
    ended = items[-1]
    assert isinstance(ended, Answered)
    assert ended.served == "computed on this machine: a secret in the prompt (aws-token)"
    await engine.close()
    await HostEngine(locations, settings.engine).stop_host()
