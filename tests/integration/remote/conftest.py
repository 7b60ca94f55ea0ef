"""llama.cpp's real server on this machine, and one that misbehaves as it is told to."""

import importlib.util
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from flex_assist.config import EngineSettings
from flex_assist.engine.local import LocalEngine
from flex_assist.engine.remote.engine import RemoteEngine
from flex_assist.remote_settings import RemoteSettings

SERVER = Path(__file__).parents[1] / "export" / "llama_server.py"
LAYERS = 2
KEY = "a-key-of-the-tests"
Start = Callable[..., str]


@pytest.fixture(scope="session")
def start_llama_server() -> Iterator[Start]:
    """Starts llama.cpp's server with the given arguments; gives its URL, up to ``/v1``."""
    if importlib.util.find_spec("xllamacpp") is None:
        pytest.skip("xllamacpp, which brings llama.cpp's server, is not installed")
    processes = []

    def start(*arguments: str) -> str:
        process = subprocess.Popen(
            [sys.executable, str(SERVER), *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        processes.append(process)
        assert process.stdout is not None
        address = next(line for line in process.stdout if line.startswith("http"))
        return address.strip() + "/v1"

    yield start
    for process in processes:
        with process:
            process.kill()


@pytest.fixture(scope="session")
def base(cut_starter: Callable[[int], Path]) -> Path:
    """The model that both sides have."""
    return cut_starter(LAYERS)


@pytest.fixture(scope="session")
def adapters(make_adapter: Callable[..., Path]) -> tuple[Path, Path]:
    """Two adapters of it, by the names of languages."""
    return (
        make_adapter("python", 5, layers=LAYERS, size=9.0),
        make_adapter("go", 6, layers=LAYERS, size=9.0),
    )


@pytest.fixture(scope="session")
def url(start_llama_server: Start, base: Path, adapters: tuple[Path, Path]) -> str:
    """A server with both adapters, and an API key."""
    loras = [word for path in adapters for word in ("--lora", str(path))]
    return start_llama_server(str(base), "--alias", "cut", "--key", KEY, *loras)


@pytest.fixture
async def local() -> AsyncIterator[LocalEngine]:
    """This machine's own engine."""
    engine = LocalEngine(
        EngineSettings(threads=1, gpu_layers=0, context_tokens=512, form="adapter")
    )
    yield engine
    await engine.close()


@pytest.fixture
async def opened(local: LocalEngine) -> AsyncIterator[Callable[[RemoteSettings], RemoteEngine]]:
    """Opens engines over servers, and closes them when the test is over."""
    engines: list[RemoteEngine] = []

    def make(settings: RemoteSettings) -> RemoteEngine:
        engines.append(RemoteEngine(settings, local))
        return engines[-1]

    yield make
    for engine in engines:
        await engine.close()
