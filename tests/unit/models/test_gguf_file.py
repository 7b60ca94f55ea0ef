"""Reading GGUF files that somebody else wrote, or half wrote, or wrote to do harm."""

import contextlib
import random
import struct
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest

from flex_assist.errors import ModelError
from flex_assist.models.architectures import layout
from flex_assist.models.gguf_file import (
    architecture,
    check_header,
    field,
    open_gguf,
    rows_of,
    tensor_values,
    values_at,
)

F16, Q4_1 = gguf.GGMLQuantizationType.F16, gguf.GGMLQuantizationType.Q4_1


def read_all(path: Path) -> None:
    """Everything that the product reads of a model."""
    reader = open_gguf(path)
    layout(reader, architecture(reader))
    for tensor in reader.tensors:
        tensor_values(tensor)


def test_a_whole_file(tiny: Path) -> None:
    reader = open_gguf(tiny)
    assert architecture(reader) == "llama"
    assert field(reader, "llama.block_count") == 2
    assert field(reader, "llama.nothing", 7) == 7
    assert field(reader, "tokenizer.ggml.tokens")[1] == "t1é"
    shapes = {tensor.name: tensor_values(tensor).shape for tensor in reader.tensors}
    assert shapes["blk.0.ffn_down.weight"] == (64, 48)
    assert shapes["output_norm.weight"] == (64,)
    assert tensor_values(reader.tensors[0]).dtype == np.float32


@pytest.mark.parametrize(
    "data",
    [
        b"", b"GGUF", b"GGUF" + b"\0" * 30, b"<html>not found</html>" * 5, b"\0" * 100,
        b"GGML" + struct.pack("<I", 3) + b"\0" * 30, b"GGUF" + struct.pack(">I", 3) + b"\0" * 30,
        b"GGUF" + struct.pack("<I", 1) + b"\0" * 30,
    ],
)  # fmt: skip
def test_what_is_no_gguf_file(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(data)
    for look in (check_header, open_gguf):
        with pytest.raises(ModelError, match=r"a\.gguf"):
            look(path)


def test_what_is_no_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.gguf", tmp_path / "absent" / "x.gguf"):
        with pytest.raises(ModelError, match="no model file"):
            open_gguf(path)


def test_cut_anywhere_it_is_a_model_error(tiny: Path, tmp_path: Path) -> None:
    data, path = tiny.read_bytes(), tmp_path / "cut.gguf"
    for length in [*range(200), *range(200, len(data), 509), len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(ModelError):
            read_all(path)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("seed", range(8))
def test_changed_anywhere_it_is_a_model_error_or_another_model(
    tiny: Path, tmp_path: Path, seed: int
) -> None:
    data, path, rng = tiny.read_bytes(), tmp_path / "changed.gguf", random.Random(seed)
    header = open_gguf(tiny).data_offset
    for _ in range(12):
        changed = bytearray(data)
        for _ in range(rng.randint(1, 3)):
            changed[rng.randrange(4, header)] = rng.choice([0, 1, 8, 9, 0x7F, 0x80, 0xFF])
        path.write_bytes(changed)
        with contextlib.suppress(ModelError):
            read_all(path)


def with_entry(kind: int, value: bytes, count: int = 1) -> bytes:
    key = b"general.architecture"
    entry = struct.pack("<Q", len(key)) + key + struct.pack("<I", kind) + value
    return b"GGUF" + struct.pack("<IQQ", 3, 0, count) + entry + b"\0" * 64


@pytest.mark.parametrize(
    "data",
    [
        with_entry(9, struct.pack("<IQ", 4, 1 << 60)),
        with_entry(9, struct.pack("<IQ", 0, 1 << 63)),
        with_entry(9, struct.pack("<IQ", 8, 1 << 60)),
        with_entry(9, struct.pack("<IQ", 9, 1) * 3000),
        with_entry(9, struct.pack("<IQ", 9, 1 << 40)),
        with_entry(8, struct.pack("<Q", 1 << 63)),
        with_entry(8, struct.pack("<Q", (1 << 64) - 1)),
        with_entry(13, b"\0" * 8),
        with_entry(4, b"\0" * 4, count=1 << 62),
        b"GGUF" + struct.pack("<IQQ", 3, 1 << 62, 0) + b"\0" * 64,
        b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + struct.pack("<QIQ", 0, 1 << 31, 5) + b"\0" * 64,
    ],
)  # fmt: skip
@pytest.mark.timeout(5)
def test_a_length_that_leads_out_of_the_file_is_not_followed(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "evil.gguf"
    path.write_bytes(data)
    with pytest.raises(ModelError, match="damaged or cut short"):
        open_gguf(path)


@pytest.mark.parametrize(
    "metadata",
    [
        {"block_count": 0},
        {"block_count": 1 << 31},
        {"attention.head_count": 0},
        {"attention.head_count": 1 << 30},
        {"attention.head_count_kv": 0},
    ],
)
@pytest.mark.timeout(5)
def test_numbers_that_no_model_has(
    make_tiny: Callable[..., Path], metadata: dict[str, int]
) -> None:
    reader = open_gguf(make_tiny(metadata=metadata))
    with pytest.raises(ModelError, match=next(iter(metadata))):
        layout(reader, architecture(reader))


def test_a_family_that_is_not_supported(make_tiny: Callable[..., Path]) -> None:
    reader = open_gguf(make_tiny(architecture="mamba"))
    with pytest.raises(
        ModelError, match="'mamba' cannot be adapted yet; supported: gemma3, granite, llama"
    ):
        layout(reader, architecture(reader))


def test_a_file_without_an_architecture(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 0) + b"\0" * 64)
    with pytest.raises(ModelError, match="no architecture"):
        architecture(open_gguf(path))
    path.write_bytes(with_entry(4, struct.pack("<I", 5)))
    with pytest.raises(ModelError, match="no architecture"):
        architecture(open_gguf(path))


def test_the_quick_reader_reads_what_the_librarys_reads(tiny: Path) -> None:
    quick, plain = open_gguf(tiny), gguf.GGUFReader(tiny)
    assert list(quick.fields) == list(plain.fields)
    for name, entry in plain.fields.items():
        assert quick.fields[name].contents() == entry.contents()
        assert quick.fields[name].types == entry.types
    for ours, theirs in zip(quick.tensors, plain.tensors, strict=True):
        assert (ours.name, ours.tensor_type) == (theirs.name, theirs.tensor_type)
        np.testing.assert_array_equal(ours.data, theirs.data)


@pytest.mark.parametrize("kind", [Q4_1, F16])
def test_rows_some_at_a_time(
    make_tiny: Callable[..., Path], kind: gguf.GGMLQuantizationType
) -> None:
    for tensor in open_gguf(make_tiny(kind=kind)).tensors:
        whole = tensor_values(tensor)
        parts = list(rows_of(tensor, 1000))
        np.testing.assert_array_equal(np.concatenate([rows for _, rows in parts]), whole)
        assert all((whole[at] == rows).all() for at, rows in parts)
        assert whole.ndim == 1 or max(rows.size for _, rows in parts) <= 1000
        if whole.ndim == 2:
            at = np.array([0, 3, len(whole) - 1])
            np.testing.assert_array_equal(values_at(tensor, at), whole[at])
