"""GGUF files that were written to break the reader: each ends in an error that says what to do."""

from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
from typer.testing import CliRunner

from flex_assist.cli.models import app
from flex_assist.errors import ModelError
from flex_assist.locations import locate
from flex_assist.models import installed
from flex_assist.models.gguf_file import architecture, field, open_gguf
from flex_assist.models.importance import Importance, read_importance, write_importance
from flex_assist.models.quantized import write_model


def replaced(tiny: Path, target: Path, old: bytes, new: bytes) -> Path:
    data = tiny.read_bytes()
    assert len(old) == len(new)
    assert data.count(old) >= 1
    target.write_bytes(data.replace(old, new, 1))
    return target


def test_texts_in_another_encoding(tiny: Path, tmp_path: Path) -> None:
    family = b"\x05\0\0\0\0\0\0\0llama"
    path = replaced(tiny, tmp_path / "a.gguf", family, family[:-1] + b"\xff")
    with pytest.raises(ModelError, match=r"'general\.architecture' of the GGUF file is no UTF-8"):
        architecture(open_gguf(path))
    with pytest.raises(ModelError, match="no UTF-8"):
        installed.add_file(path, "a", locate())
    path = replaced(tiny, tmp_path / "b.gguf", "ä{% endfor %}".encode(), b"\xff\xff{% endfor %}")
    with pytest.raises(ModelError, match="no UTF-8"):
        field(open_gguf(path), "tokenizer.chat_template")
    with pytest.raises(ModelError, match="no UTF-8"):
        write_model(path, tmp_path / "out.gguf")


def test_a_tensor_without_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tensor("output.weight", np.zeros((0, 32), np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ModelError, match="a tensor is empty"):
        write_model(path, tmp_path / "out.gguf")
    assert not (tmp_path / "out.gguf").exists()


def test_a_file_without_weights(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(ModelError, match="holds no weights"):
        installed.add_file(path, "a", locate())
    assert installed.names(locate()) == []


def test_a_link_that_leads_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").symlink_to("a.gguf")
    with pytest.raises(ModelError, match="no model file"):
        installed.add_file(tmp_path / "a.gguf", "a", locate())


def test_an_importance_matrix_over_endless_tokens(tmp_path: Path) -> None:
    path = tmp_path / "imatrix.gguf"
    write_importance(path, Importance(sums={"a": np.ones(4, np.float32)}, tokens=7), 7)
    assert read_importance(path).tokens == 7
    seven, endless = np.float32(7).tobytes(), np.float32("inf").tobytes()
    data = path.read_bytes()
    path.write_bytes(data[:-200] + data[-200:].replace(seven, endless))
    with pytest.raises(ModelError, match="is damaged at"):
        read_importance(path)


def test_the_name_of_a_family_does_not_steer_the_terminal(make_tiny: Callable[..., Path]) -> None:
    path = make_tiny(architecture="llama\x1b[31m")
    done = CliRunner().invoke(app, ["add", str(path), "--name", "a"])
    assert done.exit_code == 0, done.output
    assert "\x1b" not in done.output
    assert r"llama\x1b[31m" in done.output
