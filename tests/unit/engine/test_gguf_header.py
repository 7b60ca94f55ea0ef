"""What is plainly no model is refused before native code sees it."""

import os
import struct
from pathlib import Path

import pytest

from flex_assist.engine.gguf_header import check_gguf, file_state
from flex_assist.errors import ModelError


def header(magic: bytes = b"GGUF", version: int = 3, tensors: int = 1, entries: int = 1) -> bytes:
    return struct.pack("<4sIQQ", magic, version, tensors, entries)


def test_a_plausible_file_gives_its_real_path(tmp_path: Path) -> None:
    (tmp_path / "real.gguf").write_bytes(header() + b"\0" * 100)
    (tmp_path / "link.gguf").symlink_to("real.gguf")
    assert check_gguf(tmp_path / "link.gguf", "model") == (tmp_path / "real.gguf").resolve()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "only 0 bytes"),
        (b"GGUF", "only 4 bytes"),
        (header(magic=b"PK\3\4") + b"\0" * 100, "no GGUF file"),
        (header(version=99) + b"\0" * 100, "version 99"),
        (header(tensors=2**40) + b"\0" * 100, "damaged"),
        (header(entries=2**60) + b"\0" * 100, "damaged"),
    ],
)
def test_damage_is_named(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "bad.gguf").write_bytes(content)
    with pytest.raises(ModelError, match=says) as caught:
        check_gguf(tmp_path / "bad.gguf", "adapter")
    assert "bad.gguf" in str(caught.value)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        check_gguf(tmp_path / "none.gguf", "model")
    with pytest.raises(ModelError, match="not a file"):
        check_gguf(tmp_path, "model")


def test_links_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(ModelError, match="cannot be read"):
        check_gguf(tmp_path / "a", "model")


def test_another_file_of_one_size_and_time_is_another(tmp_path: Path) -> None:
    """As `cp -p` and `rsync -t` put it there; adapters of one rank have one size."""
    one, other = tmp_path / "one.gguf", tmp_path / "other.gguf"
    for path in (one, other):
        path.write_bytes(header() + b"\0" * 100)
        os.utime(path, (1, 1))
    before = file_state(one, "adapter")
    assert before == file_state(one, "adapter")
    other.replace(one)
    assert file_state(one, "adapter") != before
