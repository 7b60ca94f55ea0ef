"""Adapter versions on disk: whole or not there, and no name leads elsewhere."""

import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest

from flex_assist.adapters import manifest as manifests
from flex_assist.adapters.manifest import FILE_NAME, LORA_GGUF, MERGED_GGUF, Manifest
from flex_assist.adapters.registry import POINTER, VERSION, Registry, new_version
from flex_assist.errors import ConfigError, DataError
from flex_assist.locations import locate
from flex_assist.models.fim import FimTokens

# The head of a GGUF file: version 3, no tensors, no metadata.
EMPTY_GGUF = struct.pack("<4sIQQ", b"GGUF", 3, 0, 0)

FIRST, SECOND = "20260101T000000Z-0001", "20260102T000000Z-0002"
TRICKS = ["..", ".", "", "a/../b", "/etc", "../python", "Python", "python\n", "a" + "\0", "é", ".x"]


def manifest(name: str = "python", version: str = FIRST, **changes: Any) -> Manifest:
    values: dict[str, Any] = {
        "name": name,
        "version": version,
        "languages": (name,),
        "base_model": "smollm2-135m",
        "base_sha256": "0" * 64,
        "fim": FimTokens(suffix_id=1, prefix_id=2, middle_id=3, end_id=0),
        "verdict": "promoted",
        "reason": "better by 10 %",
        **changes,
    }
    return Manifest(**values)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(locate(), tmp_path)


def publish(registry: Registry, name: str = "python", version: str = FIRST) -> None:
    staged = registry.stage(name)
    (staged / LORA_GGUF).write_bytes(EMPTY_GGUF)
    (staged / FILE_NAME).write_text(manifests.to_json(manifest(name, version)))
    registry.publish(name, staged, version)


def test_a_manifest_goes_around(tmp_path: Path) -> None:
    wanted = manifest(
        metrics={"a": [1, None]}, data=[{"path": "é\udcff", "verdict": "train"}], fim=None
    )
    (tmp_path / FILE_NAME).write_text(manifests.to_json(wanted))
    assert manifests.read(tmp_path) == wanted


def test_a_manifest_may_say_more_than_we_know(tmp_path: Path) -> None:
    record = json.loads(manifests.to_json(manifest()))
    (tmp_path / FILE_NAME).write_text(json.dumps({**record, "later": 1}))
    assert manifests.read(tmp_path) == manifest()


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2, "readable_from": 2}, {"schema": "1"}, {"schema": None},
        {"fim": {"suffix_id": 1}}, {"fim": 5},
        {"fim": [1]}, {"languages": "python"}, {"languages": [1]}, {"languages": None},
        {"name": None}, {"version": 1}, {"metrics": []}, {"data": {}}, {"reason": 1},
        {"fim": {"suffix_id": "1", "prefix_id": 2, "middle_id": 3, "end_id": 4}},
    ],
)  # fmt: skip
def test_a_damaged_manifest(tmp_path: Path, change: dict[str, Any]) -> None:
    record = json.loads(manifests.to_json(manifest()))
    (tmp_path / FILE_NAME).write_text(json.dumps({**record, **change}))
    with pytest.raises(DataError, match=r"manifest\.json"):
        manifests.read(tmp_path)


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"schema": 1}', b"{}"]
)
def test_what_is_no_manifest(tmp_path: Path, data: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(data)
    with pytest.raises(DataError, match="remove that version"):
        manifests.read(tmp_path)


def test_a_missing_field_is_damage(tmp_path: Path) -> None:
    record = json.loads(manifests.to_json(manifest()))
    for key in ("name", "languages", "fim", "schema", "base_model", "reason"):
        (tmp_path / FILE_NAME).write_text(
            json.dumps({name: value for name, value in record.items() if name != key})
        )
        with pytest.raises(DataError):
            manifests.read(tmp_path)


def test_nothing_is_there_at_first(registry: Registry) -> None:
    assert registry.names() == []
    assert registry.versions("python") == []
    assert registry.active("python") is None
    assert registry.sweep() == []
    assert not registry.folder.exists()


def test_publish_activate_roll_back(registry: Registry) -> None:
    publish(registry)
    publish(registry, version=SECOND)
    assert registry.names() == ["python"]
    assert [one.manifest.version for one in registry.versions("python")] == [FIRST, SECOND]
    assert registry.active("python") is None
    for version in (FIRST, SECOND, FIRST):
        registry.activate("python", version)
        active = registry.active("python")
        assert active is not None
        assert active.manifest.version == version
        assert active.lora.is_file()
        assert active.merged is None
    registry.deactivate("python")
    registry.deactivate("python")
    assert registry.active("python") is None
    assert len(registry.versions("python")) == 2


def test_what_is_staged_is_not_there(registry: Registry) -> None:
    staged = registry.stage("python")
    (staged / FILE_NAME).write_text(manifests.to_json(manifest()))
    assert registry.names() == []
    assert registry.versions("python") == []
    assert (staged.stat().st_mode & 0o777) == 0o700


def test_publishing_is_one_rename(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    moves: list[tuple[Path, Path]] = []
    rename = Path.rename
    monkeypatch.setattr(
        Path, "rename", lambda self, target: (moves.append((self, target)), rename(self, target))
    )
    staged = registry.stage("python")
    (staged / FILE_NAME).write_text(manifests.to_json(manifest()))
    found = registry.publish("python", staged, FIRST)
    assert moves == [(staged, found.folder)]


def test_a_version_is_never_replaced(registry: Registry) -> None:
    publish(registry)
    with pytest.raises(DataError, match="already"):
        publish(registry)
    assert len(registry.versions("python")) == 1


@pytest.mark.parametrize(
    "version", ["", "1", "..", FIRST + "\n", FIRST + "x", "٢0260101T000000Z-0001"]
)
def test_a_version_has_one_form(registry: Registry, version: str) -> None:
    staged = registry.stage("python")
    (staged / FILE_NAME).write_text(manifests.to_json(manifest()))
    with pytest.raises(DataError):
        registry.publish("python", staged, version)
    assert staged.is_dir()
    with pytest.raises(DataError):
        registry.get("python", version)
    with pytest.raises(DataError):
        registry.activate("python", version)
    assert not (registry.folder / "python" / POINTER).exists()


def test_without_a_manifest_nothing_is_published(registry: Registry) -> None:
    staged = registry.stage("python")
    with pytest.raises(DataError):
        registry.publish("python", staged, FIRST)
    assert registry.versions("python") == []


@pytest.mark.parametrize("name", TRICKS)
def test_no_name_leads_elsewhere(registry: Registry, name: str) -> None:
    publish(registry)
    other = registry.folder.parent / "other" / "python" / FIRST
    other.mkdir(parents=True)
    (other / FILE_NAME).write_text(manifests.to_json(manifest()))
    with pytest.raises(ConfigError):
        registry.stage(name)
    with pytest.raises(DataError):
        registry.get(name, FIRST)
    assert registry.active(name) is None
    assert registry.versions(name) == []
    registry.deactivate(name)
    assert registry.names() == ["python"]
    with pytest.raises(DataError):
        registry.get("../other/python", FIRST)


@pytest.mark.parametrize("data", [b"", b"\xff\xfe\x00", b"../../x", FIRST.encode()[:-1], b"\0" * 9])
def test_a_damaged_pointer_means_none(registry: Registry, data: bytes) -> None:
    publish(registry)
    (registry.folder / "python" / POINTER).write_bytes(data)
    assert registry.active("python") is None
    assert len(registry.versions("python")) == 1


def test_a_folder_in_the_place_of_the_pointer(registry: Registry) -> None:
    publish(registry)
    pointer = registry.folder / "python" / POINTER
    for change in (lambda: registry.activate("python", FIRST), lambda: registry.mend("python")):
        pointer.unlink(missing_ok=True)
        (pointer / "deep").mkdir(parents=True)
        assert registry.fault("python") == "its pointer cannot be read"
        change()
        assert registry.fault("python") is None
        assert not pointer.is_dir()
    registry.deactivate("python")
    pointer.mkdir()
    registry.deactivate("python")
    assert not pointer.exists()
    assert registry.debris() == []


def test_a_version_that_cannot_answer_is_not_active(registry: Registry) -> None:
    publish(registry)
    found = registry.activate("python", FIRST)
    (found.folder / MERGED_GGUF).write_bytes(EMPTY_GGUF)
    assert found.merged == found.folder / MERGED_GGUF
    found.lora.unlink()
    assert registry.active("python") is None


def test_a_damaged_version_hides_no_other(registry: Registry) -> None:
    publish(registry)
    publish(registry, version=SECOND)
    registry.activate("python", FIRST)
    (registry.folder / "python" / FIRST / FILE_NAME).write_text("{")
    assert [one.manifest.version for one in registry.versions("python")] == [SECOND]
    assert registry.active("python") is None


def test_sweeping_removes_what_runs_left(registry: Registry, tmp_path: Path) -> None:
    publish(registry)
    staged = registry.stage("go")
    (staged / "half.gguf").write_bytes(b"x")
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "file").write_text("precious")
    os.symlink(victim, registry.folder / "go" / ".staging-link")
    assert staged in registry.sweep()
    assert not staged.exists()
    assert (victim / "file").read_text() == "precious"
    assert len(registry.versions("python")) == 1


def test_new_versions_sort_by_time_and_have_the_form() -> None:
    first, second = new_version(), new_version()
    assert VERSION.fullmatch(first)
    assert first[:16] <= second[:16]
