"""The catalogue is whole, and what is computed from it is what is known of these models."""

import pytest

from flex_assist.errors import ModelError
from flex_assist.models.catalogue import catalogue, packaged_file
from flex_assist.models.shape import ModelShape

# Millions of parameters, as their makers state them.
STATED = {
    "smollm2-135m": 135, "qwen2.5-coder-0.5b": 494, "qwen2.5-coder-1.5b": 1544,
    "qwen2.5-coder-3b": 3086, "qwen2.5-coder-7b": 7616, "starcoder2-3b": 3030,
    "starcoder2-7b": 7174, "codellama-7b": 6739, "deepseek-coder-1.3b": 1346,
    "granite-code-3b": 3483, "gemma-3-270m": 268,
}  # fmt: skip


def test_all_models_are_there() -> None:
    assert set(catalogue()) == set(STATED)


@pytest.mark.parametrize("name", STATED)
def test_an_entry_is_whole(name: str) -> None:
    entry = catalogue()[name]
    assert entry.label
    assert entry.licence
    assert entry.architecture in {"llama", "qwen2", "starcoder2", "gemma3"}
    assert (entry.package is None) != (entry.repository is None)
    assert (entry.package is None) == (entry.extra is None)
    assert entry.weights
    assert entry.weights.count("/") == 1
    assert entry.fim is None or len(set(entry.fim)) == 3
    assert entry.fim_sentinels is None or len(set(entry.fim_sentinels)) == 4


@pytest.mark.parametrize("name", STATED)
def test_parameters_follow_from_the_shape(name: str) -> None:
    assert catalogue()[name].shape.parameters / 1e6 == pytest.approx(STATED[name], rel=0.005)


def test_memory_follows_from_the_shape() -> None:
    shape = ModelShape(
        vocabulary=100, width=8, feed_forward=16, blocks=2, heads=2, kv_heads=1, head_width=4,
        tied=True, gated=True,
    )  # fmt: skip
    # Embedding, then per block: queries, keys, values, output, gate, up, down.
    assert shape.parameters == 800 + 2 * (64 + 32 + 32 + 64 + 3 * 128)
    assert shape.update_parameters == 2 * 16 * (16 + 12 + 12 + 16 + 3 * 24)
    assert shape.download_bytes() == int(shape.parameters * 8.5 / 8)
    more = shape.serving_bytes(2000) - shape.serving_bytes(1000)
    assert more == 1000 * 2 * 2 * 4 * 2
    assert shape.training_bytes(weight_bytes=4) > shape.training_bytes() > shape.parameters * 2


def test_the_licences_that_are_not_free_are_named() -> None:
    entries = catalogue()
    assert "Research" in entries["qwen2.5-coder-3b"].licence
    assert "OpenRAIL" in entries["starcoder2-7b"].licence
    assert "Llama 2" in entries["codellama-7b"].licence
    assert "Gemma" in entries["gemma-3-270m"].licence
    free = {name for name, entry in entries.items() if entry.licence == "Apache-2.0"}
    assert free >= {"smollm2-135m", "qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b", "granite-code-3b"}


def test_what_is_not_here_says_how_to_get_it() -> None:
    with pytest.raises(ModelError, match="models pull starcoder2-3b"):
        packaged_file(catalogue()["starcoder2-3b"])
