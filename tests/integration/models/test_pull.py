"""Fetching from a stand-in of the hub that cuts connections, stalls, lies and refuses."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gguf
import numpy as np
import pytest

from flex_assist.errors import ModelError
from flex_assist.locations import Locations, locate
from flex_assist.models import installed, pull, store
from flex_assist.models.catalogue import CatalogueEntry, catalogue

_spec = importlib.util.spec_from_file_location("hub", Path(__file__).with_name("hub.py"))
assert _spec is not None
assert _spec.loader is not None
hub_module = sys.modules["hub"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(hub_module)
Hub, serve = hub_module.Hub, hub_module.serve

NAME = "qwen2.5-coder-0.5b"
FILE = "model-q8_0.gguf"
FIM = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")


def write_model(path: Path, architecture: str = "qwen2", tokens: tuple[str, ...] = FIM) -> bytes:
    """Half a megabyte that begins as a model does."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_array("tokenizer.ggml.tokens", ["a", *tokens])
    random = np.random.default_rng(0)
    writer.add_tensor("token_embd.weight", random.normal(size=(512, 1024)).astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_model(tmp_path_factory.mktemp("content") / "a.gguf")


@pytest.fixture
def hub(content: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    pull._prepare()
    monkeypatch.setattr("huggingface_hub.file_download.time", SimpleNamespace(sleep=lambda s: None))
    with serve(Hub(files={FILE: content, "README.md": b"#"})) as made:
        yield made


@pytest.fixture
def locations() -> Locations:
    return locate()


@pytest.fixture
def entry() -> CatalogueEntry:
    return catalogue()[NAME]


def get(
    entry: CatalogueEntry, hub: Any, locations: Locations, told: list[int] | None = None
) -> Any:
    offer = pull.look_up(entry, locations, endpoint=hub.address)
    return pull.fetch(
        offer, locations, lambda done, _: (told if told is not None else []).append(done)
    )


def kept(locations: Locations) -> list[Path]:
    return [path for path in locations.models.rglob("*") if path.is_file()]


def test_a_model_is_fetched_and_found(
    entry: CatalogueEntry, hub: Any, locations: Locations, content: bytes
) -> None:
    told: list[int] = []
    model = get(entry, hub, locations, told)
    assert model.path.read_bytes() == content
    assert model.path.stat().st_mode & 0o777 == 0o600
    assert told == sorted(told)
    assert told[-1] == len(content)
    assert store.find(NAME).path == model.path
    assert installed.read(NAME, locations) == model
    assert hub_module.COMMIT in model.source
    assert len([path for path in kept(locations) if path.suffix != ".lock"]) == 2


def test_cut_connections_are_taken_up_where_they_ended(
    entry: CatalogueEntry, hub: Any, locations: Locations, content: bytes
) -> None:
    chunk = pull.CHUNK_BYTES
    hub.cuts = [chunk + 5, chunk + 9, 10]
    model = get(entry, hub, locations)
    assert model.path.read_bytes() == content
    assert hub.asked[0] == 0
    assert hub.asked[1] >= chunk
    assert hub.asked == sorted(hub.asked)


def test_the_next_run_goes_on_where_the_last_one_gave_up(
    entry: CatalogueEntry, hub: Any, locations: Locations, content: bytes
) -> None:
    hub.cuts = [pull.CHUNK_BYTES + 5] + [0] * 20
    with pytest.raises(ModelError, match="run the same command again to go on"):
        get(entry, hub, locations)
    with pytest.raises(ModelError, match="not on this machine"):
        store.find(NAME)
    hub.cuts, hub.asked = [], []
    offer = pull.look_up(entry, locations, endpoint=hub.address)
    assert offer.done_bytes >= pull.CHUNK_BYTES
    assert pull.fetch(offer, locations, lambda *_: None).path.read_bytes() == content
    assert hub.asked == [offer.done_bytes]


def test_a_mirror_that_cannot_begin_in_the_middle(
    entry: CatalogueEntry, hub: Any, locations: Locations, content: bytes
) -> None:
    hub.cuts, hub.ranges = [pull.CHUNK_BYTES + 5], False
    assert get(entry, hub, locations).path.read_bytes() == content


def test_a_stalled_connection_is_given_up_and_tried_again(
    entry: CatalogueEntry, hub: Any, locations: Locations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 0.3)
    hub.stalls_s = [0.8]
    assert get(entry, hub, locations).path.is_file()
    assert len(hub.asked) >= 2


def test_wrong_bytes_are_deleted(entry: CatalogueEntry, hub: Any, locations: Locations) -> None:
    hub.digests[FILE] = "0" * 64
    with pytest.raises(ModelError, match="is not what the hub keeps"):
        get(entry, hub, locations)
    assert [path.suffix for path in kept(locations)] == [".lock"]


def test_a_damaged_part_is_not_built_upon(
    entry: CatalogueEntry, hub: Any, locations: Locations, content: bytes
) -> None:
    offer = pull.look_up(entry, locations, endpoint=hub.address)
    part = pull._part(entry, offer.sha256, locations)
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 1000)
    with pytest.raises(ModelError, match="is not what the hub keeps"):
        pull.fetch(offer, locations, lambda *_: None)
    assert get(entry, hub, locations).path.read_bytes() == content


@pytest.mark.parametrize(
    ("refusal", "message"),
    [
        ((401, ""), "set HF_TOKEN"),
        ((401, "RepoNotFound"), "no such repository"),
        ((404, "RepoNotFound"), "no such repository"),
        ((403, "GatedRepo"), "accept it on the hub's page"),
        ((500, ""), "could not be fetched"),
    ],
)
def test_refusals(
    entry: CatalogueEntry, hub: Any, locations: Locations, refusal: Any, message: str
) -> None:
    hub.refusal = refusal
    with pytest.raises(ModelError, match=message):
        pull.look_up(entry, locations, endpoint=hub.address)


def test_what_is_not_there(entry: CatalogueEntry, hub: Any, locations: Locations) -> None:
    with pytest.raises(ModelError, match="no such revision"):
        pull.look_up(entry, locations, revision="gone", endpoint=hub.address)
    hub.files = {"a.safetensors": b"x"}
    with pytest.raises(ModelError, match=r"but has a\.safetensors"):
        pull.look_up(entry, locations, endpoint=hub.address)
    with pytest.raises(ModelError, match="could not be fetched"):
        pull.look_up(entry, locations, endpoint="http://127.0.0.1:9")


def test_a_model_that_the_catalogue_does_not_know(
    entry: CatalogueEntry, hub: Any, locations: Locations, tmp_path: Path
) -> None:
    hub.files[FILE] = write_model(tmp_path / "b.gguf", tokens=("b",))
    with pytest.raises(ModelError, match="no infilling token"):
        get(entry, hub, locations)
    with pytest.raises(ModelError, match="of the family 'qwen2', not 'llama'"):
        get(replace(entry, architecture="llama"), hub, locations)


def test_a_full_disk(
    entry: CatalogueEntry, hub: Any, locations: Locations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(ModelError, match="GB are free"):
        get(entry, hub, locations)


def run(*arguments: str, hub: Any, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flex_assist", "models", *arguments]
    variables = {**os.environ, "HF_ENDPOINT": hub.address, **environment}
    return subprocess.run(command, capture_output=True, text=True, env=variables, timeout=60)


def test_the_command_says_what_it_does(hub: Any, content: bytes) -> None:
    offline = run("pull", NAME, hub=hub, HF_HUB_OFFLINE="1")
    assert offline.returncode == 1
    assert "HF_HUB_OFFLINE is set" in offline.stderr
    done = run("pull", NAME, "--json", hub=hub)
    assert done.returncode == 0, done.stderr
    assert "licence: Apache-2.0" in done.stderr
    assert "100 %" in done.stderr
    answer = json.loads(done.stdout)
    assert Path(answer["path"]).read_bytes() == content
    hub.asked = []
    assert run("pull", NAME, hub=hub).returncode == 0
    assert hub.asked == []
    gone = json.loads(run("remove", NAME, "--json", hub=hub).stdout)
    assert gone["freed_bytes"] > len(content)
    assert not Path(answer["path"]).exists()


def test_without_a_terminal_it_does_not_fetch_much_unasked(hub: Any, content: bytes) -> None:
    hub.files[FILE] = content + b"\0" * pull.LARGE_BYTES
    done = run("pull", NAME, hub=hub)
    assert done.returncode == 2
    assert "say --yes" in done.stderr
    assert hub.asked == []
