"""The importance matrix: what the adapted model's layers are given."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flex_assist.errors import ModelError
from flex_assist.models.gguf_file import field, open_gguf, tensor_values
from flex_assist.models.importance import Importance, read_importance, write_importance
from flex_trainer import imatrix, lora

from .conftest import TEXTS


def test_the_inputs_of_the_first_layer(
    adapted: Any, base: Path, encode: Callable[[str], list[int]]
) -> None:
    found = imatrix.collect(adapted, base, encode, TEXTS, seed=0, most=1024)
    assert found.tokens == 1024
    # What the projections of the first block see is the embedding, normalized: by hand.
    rows = list(imatrix._mixed(
        imatrix._rows(TEXTS, encode, 0), imatrix._rows(imatrix.general_texts(), encode, 0)
    ))[:4]  # fmt: skip
    weights = {tensor.name: tensor_values(tensor) for tensor in open_gguf(base).tensors}
    embedded = weights["token_embd.weight"][np.concatenate(rows)]
    normalized = embedded / np.sqrt((embedded**2).mean(1, keepdims=True) + 1e-5)
    wanted = ((normalized * weights["blk.0.attn_norm.weight"]) ** 2).sum(0)
    for name in ("attn_q", "attn_k", "attn_v"):
        np.testing.assert_allclose(found.sums[f"blk.0.{name}.weight"], wanted, rtol=1e-3)
    # Every layer that is quantized with care: all but embedding and head.
    matrices = {name for name, value in weights.items() if value.ndim == 2}
    assert set(found.sums) == matrices - {"token_embd.weight"}
    assert not any(layer._forward_pre_hooks for layer in lora.layers(adapted).values())


def test_seven_rows_of_ten_are_the_users_own() -> None:
    own, general = iter([[0]] * 70), iter([[1]] * 70)
    rows = [row[0] for row in imatrix._mixed(own, general)]
    assert sum(rows[:100]) == 30
    assert rows[:10] == [0, 0, 1, 0, 0, 1, 0, 0, 0, 1] or sum(rows[:10]) == 3
    # Where one has no more, the other goes on.
    assert len(rows) == 140


def test_general_text_is_there_without_a_network() -> None:
    texts = imatrix.general_texts()
    assert len(texts) == 3
    assert all(len(text) > 5000 for text in texts)


def test_the_file_is_llama_cpps_own_form(tmp_path: Path) -> None:
    path = tmp_path / "imatrix.gguf"
    sums = {"blk.0.ffn_up.weight": np.arange(8, dtype=np.float32)}
    write_importance(path, Importance(sums=sums, tokens=600, sources=("a",)), 256)
    reader = open_gguf(path)
    assert field(reader, "general.type") == "imatrix"
    assert field(reader, "imatrix.chunk_count") == 3
    assert {t.name: t.shape.tolist() for t in reader.tensors} == {
        "blk.0.ffn_up.weight.in_sum2": [8, 1],
        "blk.0.ffn_up.weight.counts": [1, 1],
    }
    found = read_importance(path)
    assert (found.tokens, found.sources) == (600, ("a",))
    np.testing.assert_allclose(found.means()["blk.0.ffn_up.weight"], np.arange(8) / 600)


@pytest.mark.parametrize("value", [float("nan"), -1.0])
def test_what_is_no_sum_of_squares(tmp_path: Path, value: float) -> None:
    path = tmp_path / "imatrix.gguf"
    sums = {"x": np.array([1.0, value], np.float32)}
    write_importance(path, Importance(sums=sums, tokens=6), 256)
    with pytest.raises(ModelError, match=r"damaged at 'x\.in_sum2'"):
        read_importance(path)
    write_importance(path, Importance(sums={}, tokens=6), 256)
    with pytest.raises(ModelError, match="holds no sums"):
        read_importance(path)


def test_a_run_that_stops_early_says_how_much_it_saw(
    adapted: Any, base: Path, encode: Callable[[str], list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imatrix, "MOST_SECONDS", 0.0)
    found = imatrix.collect(adapted, base, encode, TEXTS, seed=0)
    assert found.tokens == imatrix.ROW_TOKENS
    means = found.means()["blk.1.ffn_down.weight"]
    assert torch.from_numpy(means).isfinite().all()
    assert (means > 0).all()
