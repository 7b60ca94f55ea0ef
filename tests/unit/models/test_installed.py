"""Models that were added: found by name, and refused when their file is another."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from flex_assist.errors import ConfigError, ModelError
from flex_assist.locations import Locations, locate
from flex_assist.models import installed, store
from flex_assist.models.installed import InstalledModel


@pytest.fixture
def locations() -> Locations:
    return locate()


@pytest.fixture
def file(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(tiny, tmp_path / "mine.v1.gguf"))


@pytest.fixture
def added(file: Path, locations: Locations) -> InstalledModel:
    return installed.add_file(file, "mine.v1", locations)


def test_an_added_model_is_found_and_stays_where_it_is(
    added: InstalledModel, file: Path, locations: Locations
) -> None:
    assert added.path == file
    assert added.architecture == "llama"
    assert installed.read("mine.v1", locations) == added
    found = store.find("mine.v1", locations)
    assert (found.name, found.path, found.entry) == ("mine.v1", file, None)
    # The same name, whether given by name or by file: adapters are recorded under it.
    assert store.name_of("mine.v1") == store.name_of(str(file)) == "mine.v1"
    place = installed.folder("mine.v1", locations) / "model.json"
    assert place.stat().st_mode & 0o777 == 0o600
    assert place.parent.stat().st_mode & 0o777 == 0o700


def test_a_file_that_changed_is_refused(
    added: InstalledModel, file: Path, locations: Locations
) -> None:
    assert list(installed.faults(locations)) == []
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    os.utime(file, (1, 1))
    with pytest.raises(ModelError, match="has changed"):
        store.find("mine.v1", locations)
    file.write_bytes(data + b"x")
    with pytest.raises(ModelError, match=r"bytes, not .* as when it came"):
        store.find("mine.v1", locations)
    file.unlink()
    with pytest.raises(ModelError, match="has vanished"):
        store.find("mine.v1", locations)
    ((name, fault),) = installed.faults(locations)
    assert name == "mine.v1"
    assert "models remove mine.v1" in fault


def test_removing_forgets_the_record_only(
    added: InstalledModel, file: Path, locations: Locations
) -> None:
    assert installed.remove("mine.v1", locations) > 0
    assert file.is_file()
    assert installed.names(locations) == []
    with pytest.raises(ConfigError, match=r"unknown base model 'mine\.v1'"):
        store.find("mine.v1", locations)
    with pytest.raises(ConfigError, match="there are: none"):
        installed.remove("mine.v1", locations)


def test_a_fetched_file_goes_with_its_record(
    added: InstalledModel, file: Path, locations: Locations
) -> None:
    place = installed.folder("other", locations)
    place.mkdir()
    path = Path(shutil.copy(file, place / installed.GGUF_FILE))
    installed.record(replace(added, name="other", path=path), locations)
    assert installed.remove("other", locations) > file.stat().st_size
    assert not place.exists()


def test_a_name_is_taken_once(added: InstalledModel, file: Path, locations: Locations) -> None:
    with pytest.raises(ConfigError, match=r"there is a model 'mine\.v1' already"):
        installed.add_file(file, "mine.v1", locations)


@pytest.mark.parametrize("name", ["", "..", "a/../b", "../a", "/etc", ".a", "A", "a" * 65, "a..b"])
def test_names_that_none_can_have(name: str, file: Path, locations: Locations) -> None:
    with pytest.raises(ConfigError, match="cannot be a model's name"):
        installed.add_file(file, name, locations)
    assert installed.read(name, locations) is None


def test_what_is_no_model(tmp_path: Path, locations: Locations) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(b"<html>" * 20)
    with pytest.raises(ModelError, match="is not a GGUF file"):
        installed.add_file(path, "a", locations)
    assert installed.names(locations) == []


def test_an_adapter_is_no_base(make_adapter: Callable[..., Path], locations: Locations) -> None:
    with pytest.raises(ModelError, match="of the type 'adapter'"):
        installed.add_file(make_adapter("x", 0), "x", locations)


@pytest.mark.parametrize(
    "change",
    [{"schema": 99}, {"path": 3}, {"extra": 1}, {"sha256": None, "schema": None}],
)
def test_a_record_of_another_version(
    added: InstalledModel, locations: Locations, change: dict[str, object]
) -> None:
    place = installed.folder("mine.v1", locations) / "model.json"
    place.write_text(json.dumps({**json.loads(place.read_text()), **change}))
    with pytest.raises(ModelError, match=r"models remove mine\.v1"):
        store.find("mine.v1", locations)
    place.write_text("[]")
    with pytest.raises(ModelError, match="cannot be used"):
        store.find("mine.v1", locations)
