"""Writing Q8_0: values, metadata, updates, and nothing by halves."""

from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest

from flex_assist.errors import ExportError, ModelError
from flex_assist.models.gguf_file import field, open_gguf, tensor_values
from flex_assist.models.quantized import write_model

F16, F32, Q4_1, Q8_0 = (
    gguf.GGMLQuantizationType.F16,
    gguf.GGMLQuantizationType.F32,
    gguf.GGMLQuantizationType.Q4_1,
    gguf.GGMLQuantizationType.Q8_0,
)
Values = dict[str, np.ndarray]  # type: ignore[type-arg]


def values(path: Path) -> Values:
    return {tensor.name: tensor_values(tensor) for tensor in open_gguf(path).tensors}


def kinds(path: Path) -> dict[str, gguf.GGMLQuantizationType]:
    return {tensor.name: tensor.tensor_type for tensor in open_gguf(path).tensors}


def rounding(value: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    """The most by which Q8_0 may be off: half a step of the block's scale, itself a half float."""
    blocks = np.abs(value.reshape(-1, 32)).max(axis=1, keepdims=True)
    return np.broadcast_to(blocks / 127 * 0.57 + 1e-6, (blocks.size, 32)).reshape(value.shape)


@pytest.mark.parametrize("kind", [Q4_1, F32, F16])
def test_values_and_types(
    make_tiny: Callable[..., Path], tmp_path: Path, kind: gguf.GGMLQuantizationType
) -> None:
    base, target = make_tiny(kind=kind), tmp_path / "out.gguf"
    write_model(base, target)
    before, after = values(base), values(target)
    assert list(before) == list(after)
    for name, value in before.items():
        off = np.abs(after[name] - value)
        if kinds(target)[name] == Q8_0:
            assert (off <= rounding(value)).all()
        else:
            assert not off.any()
    expected = Q8_0 if kind == Q4_1 else kind
    assert kinds(target)["blk.0.attn_q.weight"] == expected
    assert kinds(target)["blk.0.attn_norm.weight"] == F32
    assert kinds(target)["blk.0.ffn_down.weight"] == F16


def test_metadata_is_copied_and_added(make_tiny: Callable[..., Path], tmp_path: Path) -> None:
    base, target = make_tiny(kind=Q4_1), tmp_path / "out.gguf"
    write_model(base, target, metadata={"tokenizer.ggml.fim_pre_token_id": 5, "a.text": "é"})
    before, after = open_gguf(base), open_gguf(target)
    for name, entry in before.fields.items():
        if not name.startswith("GGUF."):
            assert field(after, name) == entry.contents(), name
            assert after.fields[name].types == entry.types
    assert field(after, "tokenizer.ggml.fim_pre_token_id") == 5
    assert field(after, "a.text") == "é"
    assert field(after, "general.file_type") == int(gguf.LlamaFileType.MOSTLY_Q8_0)


def test_metadata_of_the_base_can_be_replaced(tiny: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.gguf"
    write_model(tiny, target, metadata={"llama.block_count": 9})
    assert field(open_gguf(target), "llama.block_count") == 9


@pytest.mark.parametrize("kind", [Q4_1, F16, F32])
def test_updates_are_added_in_float32(
    make_tiny: Callable[..., Path], tmp_path: Path, kind: gguf.GGMLQuantizationType
) -> None:
    base, target = make_tiny(kind=kind), tmp_path / "out.gguf"
    before = values(base)
    update = np.random.default_rng(1).normal(size=(64, 64)).astype(np.float32) * 0.05
    write_model(base, target, {"blk.1.attn_q.weight": lambda rows: update[rows]})
    after, wanted = values(target), before["blk.1.attn_q.weight"] + update
    assert kinds(target)["blk.1.attn_q.weight"] == Q8_0
    assert (np.abs(after["blk.1.attn_q.weight"] - wanted) <= rounding(wanted)).all()
    assert np.abs(after["blk.0.attn_q.weight"] - before["blk.0.attn_q.weight"]).max() < 0.05


def test_a_tensor_that_q8_0_cannot_hold_stays_a_half_float(tiny: Path, tmp_path: Path) -> None:
    target, update = tmp_path / "out.gguf", np.ones((64, 48), np.float32)
    write_model(tiny, target, {"blk.0.ffn_down.weight": lambda rows: update[rows]})
    assert kinds(target)["blk.0.ffn_down.weight"] == F16
    wanted = values(tiny)["blk.0.ffn_down.weight"] + 1
    np.testing.assert_allclose(
        values(target)["blk.0.ffn_down.weight"], wanted, rtol=1e-3, atol=1e-3
    )


def test_a_failure_leaves_nothing(tiny: Path, tmp_path: Path) -> None:
    target = tmp_path / "out" / "out.gguf"

    def broken(_: slice) -> np.ndarray:  # type: ignore[type-arg]
        raise ExportError("no update")

    wrong: list[tuple[str, object]] = [
        ("blk.1.attn_q.weight", lambda rows: np.zeros((64, 65), np.float32)[rows]),
        ("blk.1.attn_q.weight", lambda rows: np.zeros((64,), np.float32)[rows]),
        ("blk.1.attn_q.weight", broken),
        ("blk.9.attn_q.weight", lambda rows: np.zeros((64, 64), np.float32)[rows]),
    ]
    for name, update in wrong:
        with pytest.raises(ExportError):
            write_model(tiny, target, {name: update})  # type: ignore[dict-item]
    assert not target.exists()
    assert not target.parent.exists() or list(target.parent.iterdir()) == []


def test_a_damaged_base_leaves_nothing(tiny: Path, tmp_path: Path) -> None:
    base, target = tmp_path / "cut.gguf", tmp_path / "out.gguf"
    base.write_bytes(tiny.read_bytes()[:-100])
    with pytest.raises(ModelError):
        write_model(base, target)
    assert list(tmp_path.iterdir()) == [base]


@pytest.mark.parametrize("size", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("kind", [Q8_0, F16])
def test_what_is_no_number_is_refused(
    tiny: Path, tmp_path: Path, size: float, kind: gguf.GGMLQuantizationType
) -> None:
    update = np.zeros((64, 64), np.float32)
    update[5, 7] = size
    with pytest.raises(ExportError, match=r"'blk\.1\.attn_q\.weight' is too large or no number"):
        write_model(
            tiny, tmp_path / "out.gguf", {"blk.1.attn_q.weight": lambda at: update[at]}, kind=kind
        )
    assert list(tmp_path.iterdir()) == []
