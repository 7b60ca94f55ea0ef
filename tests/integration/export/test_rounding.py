"""Forms in few bits over a base in few bits: as long an update as was learnt."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flex_assist.adapters.forms import Parts, write_form
from flex_assist.engine.quantize import quantize
from flex_assist.errors import ExportError
from flex_assist.models.gguf_file import open_gguf, tensor_values
from flex_assist.models.importance import read_importance
from flex_assist.models.lora_gguf import write_updates
from flex_assist.models.rounding import Correction, learn_correction, write_part
from flex_assist.models.survival import stored_updates

LORA, MATRIX = "adapter.gguf", "imatrix.gguf"


@pytest.fixture(scope="module")
def few_bits(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base on the grid of Q4_K."""
    path = tmp_path_factory.mktemp("few") / "base.gguf"
    quantize(base, path, "Q4_K_M")
    return path


def learnt(base: Path, files: Path, kind: str, folder: Path) -> Correction:
    return learn_correction(
        base, files / LORA, files / MATRIX, folder,
        lambda source, target, matrix: quantize(source, target, kind, importance=matrix),
    )  # fmt: skip


def lengths(base: Path, lora: Path, merged: Path) -> Mapping[str, float]:
    """Of each tensor's update: how long it is in a file, of what was learnt."""
    before = {tensor.name: tensor_values(tensor) for tensor in open_gguf(base).tensors}
    after = {tensor.name: tensor_values(tensor) for tensor in open_gguf(merged).tensors}
    found = {}
    for name, update in stored_updates(lora).items():
        delta = update.rows(slice(None))
        found[name] = float(np.vdot(after[name] - before[name], delta) / np.vdot(delta, delta))
    return found


def test_the_update_is_as_long_as_it_was_learnt(
    few_bits: Path, written: tuple[Path, Any], tmp_path: Path
) -> None:
    files = written[0]
    correction = learnt(few_bits, files, "Q4_0", tmp_path)
    assert 0.6 < min(correction.shares.values()) < 0.95
    assert not correction.dropped
    plain, made = tmp_path / "plain.gguf", tmp_path / "made.gguf"
    write_form(Parts(base=few_bits, lora=files / LORA), plain, "F16")
    quantize(plain, as_it_is := tmp_path / "q.gguf", "Q4_0", importance=files / MATRIX)
    write_form(Parts(base=few_bits, lora=files / LORA, matrix=files / MATRIX), made, "Q4_0")
    short, right = (
        np.mean([*lengths(few_bits, files / LORA, path).values()]) for path in (as_it_is, made)
    )
    assert short < 0.95
    assert abs(right - 1) < abs(short - 1) / 2
    assert {path.name for path in tmp_path.iterdir()} == {"plain.gguf", "q.gguf", "made.gguf"}


def test_the_sample_says_what_the_whole_does(
    few_bits: Path, written: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flex_assist.models.rounding.SAMPLE_NUMBERS", 1 << 13)
    sampled = learnt(few_bits, written[0], "Q4_0", tmp_path)
    monkeypatch.setattr("flex_assist.models.rounding.SAMPLE_NUMBERS", 1 << 30)
    whole = learnt(few_bits, written[0], "Q4_0", tmp_path)
    assert sampled.shares.keys() == whole.shares.keys()
    for kind, share in whole.shares.items():
        assert sampled.shares[kind] == pytest.approx(share, abs=0.1)
    assert not [*tmp_path.iterdir()]


def test_no_matrix_where_nothing_would_be_left(
    few_bits: Path, written: tuple[Path, Any], tmp_path: Path
) -> None:
    """On the grid that the base came in, the quantizer finds the base again."""
    files, part = written[0], tmp_path / "part.gguf"
    correction = learnt(few_bits, files, "Q4_K_M", tmp_path)
    assert correction.shares["Q4_K"] < 0.6 < correction.shares["Q6_K"]
    assert correction.dropped
    assert {correction.gains[name] for name in correction.dropped} == {1.0}
    assert write_part(files / MATRIX, correction.dropped, part)
    all_sums = read_importance(files / MATRIX).sums.keys()
    assert read_importance(part).sums.keys() == all_sums - correction.dropped
    assert not write_part(files / MATRIX, frozenset(all_sums), none := tmp_path / "none.gguf")
    assert not none.exists()


def test_a_base_on_no_grid_needs_next_to_nothing(
    base: Path, written: tuple[Path, Any], tmp_path: Path
) -> None:
    correction = learnt(base, written[0], "Q6_K", tmp_path)
    assert all(1 <= gain < 1.05 for gain in correction.gains.values())


def test_a_share_that_chance_would_give_is_none(
    base: Path, written: tuple[Path, Any], tmp_path: Path
) -> None:
    """A short update is lost in the noise of rounding: nothing is learnt from that."""
    files = tmp_path / "files"
    files.mkdir()
    (files / MATRIX).write_bytes((written[0] / MATRIX).read_bytes())
    updates = {
        name: (update.a, update.b * np.float32(1e-3))
        for name, update in stored_updates(written[0] / LORA).items()
    }
    write_updates(files / LORA, "llama", updates, None)
    correction = learnt(base, files, "Q4_K_M", tmp_path)
    assert set(correction.shares.values()) == {1.0}
    assert not correction.dropped


def test_an_update_of_another_base_is_refused(written: tuple[Path, Any], tmp_path: Path) -> None:
    name, update = next(iter(stored_updates(written[0] / LORA).items()))
    (tmp_path / MATRIX).write_bytes((written[0] / MATRIX).read_bytes())
    for wrong in (
        {"blk.9.attn_q.weight": (update.a, update.b)},
        {name: (update.a, update.b[:-1])},
    ):
        write_updates(tmp_path / LORA, "llama", wrong, None)
        with pytest.raises(ExportError, match="is not of the base"):
            learnt(written[0] / "merged-q8_0.gguf", tmp_path, "Q4_0", tmp_path)
