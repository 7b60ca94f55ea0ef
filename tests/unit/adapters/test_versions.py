"""Rolling back, disk space, damage: what happens to versions after they were published."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from flex_assist.adapters import health, quota
from flex_assist.adapters.manifest import FILE_NAME, LORA_GGUF
from flex_assist.adapters.registry import STAGING, TRASH, AdapterVersion, Registry
from flex_assist.adapters.router import BASE, Router
from flex_assist.errors import ConfigError, DataError
from flex_assist.files import digest
from flex_assist.locations import locate
from flex_assist.locks import exclusive

Promote = Callable[..., AdapterVersion]
VERSIONS = tuple(f"2026010{day}T000000Z-000{day}" for day in range(1, 6))
SHA = "a" * 64


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(locate(), tmp_path)


@pytest.fixture
def several(registry: Registry, promote: Promote) -> list[AdapterVersion]:
    """Five versions of one adapter; the fourth was not promoted, and the fifth is active."""
    verdicts = ["promoted"] * 3 + ["kept-base", "promoted"]
    return [
        promote(registry, version=version, verdict=verdict)
        for version, verdict in zip(VERSIONS, verdicts, strict=True)
    ]


def active(registry: Registry) -> str | None:
    return registry.active_version("python")


def damage(found: AdapterVersion) -> None:
    found.lora.write_bytes(b"GGUF")


def test_rolling_back_passes_what_was_not_promoted_or_is_damaged(
    registry: Registry, several: list[AdapterVersion]
) -> None:
    assert registry.roll_back("python").manifest.version == VERSIONS[2]
    assert active(registry) == VERSIONS[2]
    damage(several[1])
    assert registry.roll_back("python").manifest.version == VERSIONS[0]
    with pytest.raises(DataError, match="no promoted version of 'python' before"):
        registry.roll_back("python")
    assert active(registry) == VERSIONS[0]
    registry.deactivate("python")
    with pytest.raises(DataError, match="no version of 'python' is active"):
        registry.roll_back("python")


def test_rolling_back_from_what_was_activated_by_hand(registry: Registry, promote: Promote) -> None:
    promote(registry, version=VERSIONS[2])
    promote(registry, version=VERSIONS[0], verdict="imported")
    assert active(registry) == VERSIONS[0]
    # Imported later, though its name is older.
    assert registry.roll_back("python").manifest.version == VERSIONS[2]


def test_mending_brings_nothing_back_that_was_rolled_back(
    registry: Registry, promote: Promote
) -> None:
    versions = [promote(registry, version=one) for one in VERSIONS[:3]]
    assert registry.roll_back("python").manifest.version == VERSIONS[1]
    # Mended by somebody else since it was looked at.
    found = registry.mend("python")
    assert found is not None
    assert found.manifest.version == VERSIONS[1]
    damage(versions[1])
    found = registry.mend("python")
    assert found is not None
    assert found.manifest.version == VERSIONS[0]


def test_a_manifest_belongs_to_its_folder(registry: Registry, promote: Promote) -> None:
    made = promote(registry, version=VERSIONS[0])
    path = made.folder / "manifest.json"
    path.write_text(path.read_text().replace(VERSIONS[0], VERSIONS[1]))
    with pytest.raises(DataError, match="holds the manifest of python/"):
        registry.get("python", VERSIONS[0])
    assert registry.active("python") is None


def test_a_version_that_has_changed_is_not_activated(
    registry: Registry, promote: Promote, several: list[AdapterVersion]
) -> None:
    whole = promote(registry, version="20260106T000000Z-0006", artefacts={LORA_GGUF: "0" * 64})
    registry.activate("python", VERSIONS[0])
    with pytest.raises(DataError, match=r"adapter\.gguf has changed"):
        registry.activate("python", whole.manifest.version)
    assert active(registry) == VERSIONS[0]


def test_a_truncated_adapter_does_not_answer_and_the_reason_says_so(
    registry: Registry, promote: Promote, tmp_path: Path
) -> None:
    found = promote(registry, sizes={LORA_GGUF: 24})
    router = Router(locate(), tmp_path)
    assert router.route("python").name == "python"
    found.lora.write_bytes(found.lora.read_bytes() + b"\0")
    route = router.route("python")
    assert route.name == BASE
    assert "has 25 bytes and not 24" in route.reason


def test_an_adapter_of_another_file_of_the_same_name(
    registry: Registry, promote: Promote, tmp_path: Path
) -> None:
    base = tmp_path / "own.gguf"
    base.write_bytes(b"one")
    promote(registry, base_model="own", base_sha256=digest(base))
    assert Router(locate(), tmp_path, str(base)).route("python").name == "python"
    base.write_bytes(b"another")
    router = Router(locate(), tmp_path, str(base))
    route = router.route("python")
    assert route.name == BASE
    assert "another file of the name 'own'" in route.reason
    with pytest.raises(ConfigError, match="another file"):
        router.route(None, "python")


def test_the_oldest_inactive_versions_go_first(
    registry: Registry, promote: Promote, several: list[AdapterVersion]
) -> None:
    def large(path: Path) -> None:
        path.write_bytes(several[0].lora.read_bytes() + b"\0" * 2_000_000)

    new = promote(registry, write=large, parent=VERSIONS[0])
    (several[1].folder / FILE_NAME).write_text("{")
    registry.activate("python", VERSIONS[4])
    key = ("python", new.manifest.version)
    assert quota.enforce(registry, 3, key) == ([], 3)
    removed, left_mb = quota.enforce(registry, 1, key)
    assert removed == [("python", VERSIONS[0]), ("python", VERSIONS[2]), ("python", VERSIONS[3])]
    assert left_mb == 3
    assert registry.version_names("python") == [VERSIONS[1], VERSIONS[4], new.manifest.version]


def test_the_version_that_the_active_one_began_with_stays(
    registry: Registry, promote: Promote, several: list[AdapterVersion]
) -> None:
    new = promote(registry, parent=VERSIONS[0]).manifest.version
    # All together are larger than nothing.
    quota.enforce(registry, 0, ("python", new))
    assert registry.version_names("python") == [VERSIONS[0], new]


def test_what_is_removed_goes_out_of_sight_at_once(
    registry: Registry, several: list[AdapterVersion], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(path: Path) -> None:
        raise KeyboardInterrupt(path.name)

    with monkeypatch.context() as patched:
        patched.setattr("flex_assist.adapters.registry.shutil.rmtree", stopped)
        with pytest.raises(KeyboardInterrupt, match=TRASH):
            registry.remove("python", VERSIONS[4])
    assert active(registry) is None
    assert registry.version_names("python") == list(VERSIONS[:4])
    assert [path.name[: len(TRASH)] for path in registry.sweep()] == [TRASH]


def test_doctor_mends_and_deletes_no_version(
    registry: Registry, several: list[AdapterVersion]
) -> None:
    assert list(health.look(locate())) == []
    damage(several[4])
    staged = registry.stage("python")
    part = registry.folder / "python" / ".active.abcd1234.part"
    part.write_text("2026")
    orphan = locate().training("gone-0123456789")
    orphan.mkdir(parents=True)
    found = {one.path for one in health.look(locate())}
    assert found == {several[4].folder, registry.pointer("python"), staged, part, orphan}
    assert staged.exists()
    done = {one.path: one.done for one in health.look(locate(), fix=True)}
    assert done[registry.pointer("python")] == f"{VERSIONS[2]} answers now"
    assert [one.path for one in health.look(locate())] == [several[4].folder]
    assert not any(path.exists() for path in (staged, part, orphan))
    assert registry.version_names("python") == list(VERSIONS)


def test_doctor_leaves_a_living_runs_work_alone(
    registry: Registry, several: list[AdapterVersion]
) -> None:
    staged = registry.stage("python")
    assert staged.name.startswith(STAGING)
    with exclusive(registry.lock_file, what="a run"):
        assert list(health.look(locate(), fix=True)) == []
    assert staged.is_dir()
    assert [one.path for one in health.look(locate(), fix=True)] == [staged]


def test_doctor_leaves_what_only_newer_readers_understand(
    registry: Registry, several: list[AdapterVersion]
) -> None:
    path = several[4].folder / FILE_NAME
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "schema": 9, "readable_from": 9}))
    (found,) = health.look(locate(), fix=True)
    assert "update" in found.advice
    assert active(registry) == VERSIONS[4]
    assert several[4].lora.exists()
    assert quota.enforce(registry, 0, ("python", VERSIONS[0]))[0] == [
        ("python", version) for version in VERSIONS[1:4]
    ]
    assert several[4].lora.exists()


def test_doctor_lets_the_base_answer_where_no_version_is_whole(
    registry: Registry, promote: Promote
) -> None:
    damage(promote(registry))
    done = {one.path: one.done for one in health.look(locate(), fix=True)}
    assert done[registry.pointer("python")] == "the base answers now"
    assert active(registry) is None
