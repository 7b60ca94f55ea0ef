"""How many layers a GPU has room for."""

import sys

import pytest

from flex_assist.engine import devices
from flex_assist.engine.devices import CONTEXT_BYTES, DRIVER_BYTES, PLANNED_CONTEXTS, Shape
from flex_assist.engine.llama import ALL_LAYERS

# Qwen2.5-Coder 7B in Q4_K_M.
SEVEN = {
    "general.architecture": "qwen2", "qwen2.block_count": "28", "qwen2.embedding_length": "3584",
    "qwen2.attention.head_count": "28", "qwen2.attention.head_count_kv": "4",
}  # fmt: skip
OVERHEAD = DRIVER_BYTES + CONTEXT_BYTES * PLANNED_CONTEXTS


def test_a_file_tells_its_shape() -> None:
    shape = devices.shape_of(SEVEN.get, 4_680_000_000)
    # Keys and values of 4 heads of 128 numbers, of 2 bytes each.
    assert shape == Shape(layers=28, size_bytes=4_680_000_000, kv_bytes=4 * 128 * 2 * 2)
    assert devices.shape_of({}.get, 1) is None
    assert devices.shape_of({**SEVEN, "qwen2.block_count": "x"}.get, 1) is None


def test_layers_follow_the_free_memory() -> None:
    shape = devices.shape_of(SEVEN.get, 4_680_000_000)
    assert shape is not None
    counts = [devices.fitting(shape, gb * 10**9, 2048) for gb in (0, 1, 2, 4, 24)]
    assert counts[0] == counts[1] == 0
    assert 0 < counts[2] < counts[3] < 28
    assert counts[4] == ALL_LAYERS


def test_longer_contexts_leave_fewer_layers() -> None:
    shape = Shape(layers=10, size_bytes=1_100_000_000, kv_bytes=1000)
    assert devices.fitting(shape, OVERHEAD + 500_000_000, 1) == 4
    assert devices.fitting(shape, OVERHEAD + 500_000_000, 25_000) == 2
    assert devices.fitting(shape, OVERHEAD + 1_110_000_000, 1) == ALL_LAYERS


@pytest.mark.parametrize(
    ("system", "names"),
    [("linux", ["CUDA", "Vulkan"]), ("darwin", ["Metal"]), ("win32", ["CUDA", "Vulkan"])],
)
def test_each_system_is_told_its_builds(
    monkeypatch: pytest.MonkeyPatch, system: str, names: list[str]
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    commands = devices.rebuild_commands()
    assert [name.split()[0] for name in commands] == names
    for name, command in commands.items():
        assert f"-DGGML_{name.split()[0].upper()}=on" in command
        assert "--no-cache-dir" in command
