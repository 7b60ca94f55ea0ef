"""Which versions know a file, and how they go."""

import pytest

from flex_assist.adapters import traces
from flex_assist.adapters.registry import Registry
from flex_assist.errors import DataError
from flex_assist.locations import locate
from flex_assist.repository import forgotten as forgetting
from flex_assist.repository.forgotten import Forgotten


def record(path: str, verdict: str = "train", sha256: str | None = None, **more: str) -> dict:
    return {"path": path, "verdict": verdict, "sha256": sha256, "language": "python", **more}


@pytest.fixture
def registry(tmp_path):
    return Registry(locate(), tmp_path)


def known(registry, **forgotten) -> list[str]:
    found = traces.of(Forgotten(paths={p: frozenset(d) for p, d in forgotten.items()}), registry)
    return [one.name for one in found]


def test_versions_that_saw_a_file_are_found(registry, promote):
    promote(registry, "python", data=[record("a.py", sha256="1"), record("b/c.py", sha256="2")])
    promote(registry, "go", data=[record("a.py", "skip"), record("x.go", "held-out", "3")])
    seen = {"a.py": ["python"], "b": ["python"], "b/c.py": ["python"], "x.go": ["go"], "c.py": []}
    for path, names in seen.items():
        assert [t.name for t in traces.of(Forgotten().joined(path), registry)] == names
    # Under another name, and through the version that training began with.
    assert [t.name for t in traces.of(Forgotten().joined("moved.py", ["2"]), registry)] == [
        "python"
    ]
    promote(registry, "python", data=[record("gone.py", "inherited", "9")])
    assert len(traces.of(Forgotten().joined("gone.py"), registry)) == 1
    assert traces.digests_of("b", registry) == {"2"}
    assert traces.of(forgetting.NOTHING, registry) == []


def test_all_languages_that_the_weights_saw_are_told(registry, promote):
    data = [record("a.py", sha256="1"), record("x.go", language="go"), record("s", "skip")]
    promote(registry, "python", data=data)
    (found,) = traces.of(Forgotten().joined("x.go"), registry)
    assert found.languages == ("go", "python")


def test_a_version_that_cannot_say_counts(registry, promote):
    version = promote(registry, "python", data=[record("a.py")])
    (version.folder / "manifest.json").write_text("{")
    assert [t.name for t in traces.of(Forgotten().joined("z.py"), registry)] == ["python"]
    # Made when manifests named their own language's files only, and begun with all languages'.
    old = [{"path": "a.py", "verdict": "train", "sha256": "1"}]
    promote(registry, "go", data=old, details={"common_steps": 3})
    assert {t.name for t in traces.of(Forgotten().joined("z.py"), registry)} == {"go", "python"}


def test_removed_versions_cannot_come_back(registry, promote):
    first = promote(registry, "python", data=[record("a.py")])
    second = promote(registry, "python", data=[record("b.py")])
    kept = promote(registry, "go", data=[record("x.go")])
    traces.remove(traces.of(Forgotten().joined("a.py"), registry), registry)
    assert not first.folder.exists()
    assert registry.active("python").manifest.version == second.manifest.version
    with pytest.raises(DataError):
        registry.activate("python", first.manifest.version)
    traces.remove(traces.of(Forgotten().joined("b.py"), registry), registry)
    assert registry.active_version("python") is None
    assert registry.active("go").manifest.version == kept.manifest.version


def test_what_is_forgotten_is_kept_and_can_be_taken_back(tmp_path):
    forgotten = Forgotten().joined("a/b.py", ["1"]).joined("na\udcffme").joined("a/b.py", ["2"])
    forgetting.save(forgotten, tmp_path)
    assert forgetting.load(tmp_path) == forgotten
    assert forgotten.digests == {"1", "2"}
    assert forgotten.has_path("na\udcffme/inside.py")
    assert not forgotten.has_path("a")
    left = forgotten.without(["a/b.py"])
    assert (left.digests, left.has_path("a/b.py")) == (frozenset(), False)
    assert forgetting.load(tmp_path / "nowhere") == forgetting.NOTHING
    assert (tmp_path / forgetting.FILE_NAME).stat().st_mode & 0o777 == 0o600
    (tmp_path / forgetting.FILE_NAME).write_text('{"paths": [1]}')
    with pytest.raises(DataError, match="not known what to leave out"):
        forgetting.load(tmp_path)
