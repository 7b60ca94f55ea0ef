"""llama.cpp's quantizer, in a process of its own."""

import resource
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from flex_assist.engine import quantize
from flex_assist.errors import ConfigError, ExportError, ModelError
from flex_assist.models.gguf_file import field, open_gguf, tensor_values
from flex_assist.models.importance import Importance, write_importance
from flex_assist.models.quantized import write_model
from flex_assist.processes import own_command

DOWN = "blk.0.ffn_down.weight"
# llama.cpp keeps some tensors of a form in more bits.
KINDS = {
    "F16": {"F16"},
    "Q8_0": {"Q8_0"},
    "Q6_K": {"Q6_K"},
    "Q5_K_M": {"Q5_K", "Q6_K"},
    "Q4_K_M": {"Q4_K", "Q6_K"},
    "Q4_0": {"Q4_0", "Q6_K", "Q4_1"},
}


def values(path: Path, name: str) -> np.ndarray:
    return tensor_values(next(t for t in open_gguf(path).tensors if t.name == name))


@pytest.mark.parametrize("kind", quantize.TYPES)
def test_every_form(base: Path, tmp_path: Path, kind: str) -> None:
    told: list[tuple[int, int]] = []
    target = tmp_path / "out.gguf"
    quantize.quantize(base, target, kind, progress=lambda *step: told.append(step))
    reader = open_gguf(target)
    matrices = [tensor for tensor in reader.tensors if len(tensor.shape) == 2]
    assert {tensor.tensor_type.name for tensor in matrices} <= KINDS[kind]
    assert len({tensor.tensor_type.name for tensor in matrices} & KINDS[kind]) >= 1
    off = values(target, DOWN) - values(base, DOWN)
    assert np.sqrt((off**2).mean()) < (0 if kind == "F16" else 0.006) + 1e-9
    assert field(reader, "tokenizer.chat_template") == field(
        open_gguf(base), "tokenizer.chat_template"
    )
    count = len(reader.tensors)
    assert told == [(at, count) for at in range(1, count + 1)]
    assert target.stat().st_mode & 0o777 == 0o600
    assert target.stat().st_size <= quantize.expected_bytes(base, kind)
    assert list(tmp_path.iterdir()) == [target]


def test_q8_0_is_the_same_as_ours(base: Path, tmp_path: Path) -> None:
    """What ``models/quantized.py`` writes for serving is what llama.cpp would."""
    quantize.quantize(base, tmp_path / "theirs.gguf", "Q8_0")
    updates = {t.name: np.zeros(tuple(reversed(t.shape.tolist())), np.float32)
               for t in open_gguf(base).tensors if len(t.shape) == 2}  # fmt: skip
    write_model(base, tmp_path / "ours.gguf", {n: u.__getitem__ for n, u in updates.items()})
    theirs, ours = open_gguf(tmp_path / "theirs.gguf"), open_gguf(tmp_path / "ours.gguf")
    stored = {tensor.name: tensor for tensor in ours.tensors}
    for tensor in theirs.tensors:
        assert tensor.tensor_type == stored[tensor.name].tensor_type
        np.testing.assert_array_equal(tensor.data, stored[tensor.name].data)


@pytest.mark.parametrize("kind", ["Q4_K_M", "Q4_0"])
def test_the_importance_matrix_is_used(base: Path, tmp_path: Path, kind: str) -> None:
    """Where one input is large, the weights that meet it are rounded better."""
    weight = values(base, DOWN)
    sums = np.full(weight.shape[1], 0.01, np.float32)
    sums[::16] = 100.0
    importance = tmp_path / "imatrix.gguf"
    write_importance(importance, Importance(sums={DOWN: sums}, tokens=1), 1)
    quantize.quantize(base, tmp_path / "plain.gguf", kind)
    quantize.quantize(base, tmp_path / "weighted.gguf", kind, importance=importance)
    plain, weighted = (
        ((values(tmp_path / name, DOWN) - weight) ** 2 * sums).sum()
        for name in ("plain.gguf", "weighted.gguf")
    )
    assert weighted < 0.8 * plain
    other = "blk.1.ffn_down.weight"
    np.testing.assert_array_equal(
        values(tmp_path / "plain.gguf", other), values(tmp_path / "weighted.gguf", other)
    )


def test_what_cannot_be_done_says_why(base: Path, tmp_path: Path) -> None:
    target = tmp_path / "out" / "out.gguf"
    with pytest.raises(ConfigError, match=r"'Q3_K'.*Q4_K_M"):
        quantize.quantize(base, target, "Q3_K")
    with pytest.raises(ModelError, match="no model file"):
        quantize.quantize(tmp_path / "absent.gguf", target, "Q8_0")
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(base.read_bytes()[:-50_000])
    with pytest.raises(ExportError, match=r"out\.gguf.*llama\.cpp's quantizer ended with"):
        quantize.quantize(cut, target, "Q8_0")
    with pytest.raises(ExportError, match="is no importance matrix"):
        quantize.quantize(base, target, "Q4_K_M", importance=base)
    quantize.quantize(base, cut, "Q4_0")
    with pytest.raises(ExportError, match=r"requantizing from type q\w+ is disabled"):
        quantize.quantize(cut, target, "Q8_0")
    assert list(target.parent.iterdir()) == []


def test_a_disk_that_is_too_small_is_noticed_before(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(ExportError, match=r"'out\.gguf' may need .* MB and .* make room"):
        quantize.quantize(base, tmp_path / "out.gguf", "Q8_0")
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_leaves_nothing(base: Path, tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(ExportError, match=r"llama\.cpp's quantizer ended with"):
            quantize.quantize(base, tmp_path / "out.gguf", "Q8_0")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_a_native_abort_costs_a_message(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that ends by a signal, as by a failed assertion in native code."""
    own = quantize.own_command
    monkeypatch.setattr(
        quantize, "own_command",
        lambda *_: [own("x")[0], "-c", "import os; print('ggml_abort'); os.abort()"],
    )  # fmt: skip
    with pytest.raises(ExportError, match=r"ended with -\d+"):
        quantize.quantize(base, tmp_path / "out.gguf", "Q8_0")
    assert list(tmp_path.iterdir()) == []


def test_the_quantizer_ends_with_who_asked(base: Path, tmp_path: Path) -> None:
    """As after kill -9: its input is closed."""
    target = tmp_path / "out.gguf"
    command = own_command("flex_assist.engine.quantize", str(base), str(target), "Q4_K_M", "1")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=30) == 1
    assert not target.exists()
