"""Files of others that would hang the reader, or fill its memory: refused before they are read."""

import json
import os
import signal
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from flex_assist.errors import ModelError
from flex_assist.locations import locate
from flex_assist.models import digests, installed
from flex_assist.models.hf_folder import _config
from flex_assist.models.hf_tokenizer import read_tokenizer
from flex_assist.models.safetensors_files import open_folder

DEEP = "[" * 200_000
INDEX = "model.safetensors.index.json"


@pytest.fixture
def alarm() -> Iterator[None]:
    """Ends a read that would wait for ever."""

    def ring(*_: object) -> None:
        raise TimeoutError("it hung")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(5)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def look(folder: Path, name: str) -> None:
    if name == "config.json":
        _config(folder)
    elif name.startswith(("tokenizer", "chat")):
        read_tokenizer(folder, 4)
    else:
        open_folder(folder)


def folder_of(path: Path) -> Path:
    model = {"model": {"type": "BPE", "vocab": {c: n for n, c in enumerate("abcd")}, "merges": []}}
    (path / "tokenizer.json").write_text(json.dumps(model))
    (path / "config.json").write_text("{}")
    return path


@pytest.mark.usefixtures("alarm")
@pytest.mark.parametrize(
    "name",
    ["config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja",
     "model.safetensors", INDEX, "shard"],
)  # fmt: skip
def test_pipes_and_devices_are_not_read(tmp_path: Path, name: str) -> None:
    folder = folder_of(tmp_path)
    if name == "shard":
        (folder / INDEX).write_text(json.dumps({"weight_map": {"a": "shard"}}))
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    with pytest.raises(ModelError, match="not a regular file"):
        look(folder, name)
    (folder / name).unlink()
    (folder / name).symlink_to("/dev/zero")
    with pytest.raises(ModelError, match="not a regular file"):
        look(folder, name)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", INDEX, "model.safetensors"])
def test_json_that_is_nested_without_end(tmp_path: Path, name: str) -> None:
    folder = folder_of(tmp_path)
    head = struct.pack("<Q", len(DEEP)) if name == "model.safetensors" else b""
    (folder / name).write_bytes(head + DEEP.encode())
    with pytest.raises(ModelError, match="nested too deeply"):
        look(folder, name)


def test_own_records_that_are_nested_without_end(tmp_path: Path) -> None:
    locations = locate()
    place = installed.folder("m", locations) / installed.RECORD
    place.parent.mkdir(parents=True)
    place.write_text(DEEP)
    with pytest.raises(ModelError, match="models remove m"):
        installed.read("m", locations)
    locations.cache.mkdir(parents=True, exist_ok=True)
    (locations.cache / "hashes.json").write_text(DEEP)
    (tmp_path / "a").write_bytes(b"x")
    assert digests.sha256(tmp_path / "a", locations) == digests.sha256_now(tmp_path / "a")


def one(shape: object, start: object, end: object) -> dict[str, object]:
    return {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({f"t{n}": one([2, 2], 0, 16) for n in range(100)}, "overlap"),
        ({"a": one([2, 2], 0, 16), "b": one([2, 2], 12, 28)}, "overlap"),
        ({"a": one([float("inf"), 4], 0, 16)}, "whole number"),
        ({"a": one([2, 2], 0, float("inf"))}, "whole number"),
        ({"a": one([2, 2], 0, 1e400)}, "whole number"),
        ({"a": one(["2", "2"], 0, 16)}, "whole number"),
        ({"a": one([1] * 100, 0, 4)}, "100 dimensions"),
        ([], "no table"),
    ],
)
def test_safetensors_headers_of_an_attacker(tmp_path: Path, header: object, message: str) -> None:
    text = json.dumps(header).encode()
    data = struct.pack("<Q", len(text)) + text + bytes(32)
    (tmp_path / "model.safetensors").write_bytes(data)
    with pytest.raises(ModelError, match=message):
        open_folder(tmp_path)
