"""What counts as changed, and what is remembered."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flex_assist.adapters.registry import Registry
from flex_assist.locations import locate
from flex_trainer import watch_changes
from flex_trainer.watch_changes import Memory, Text, compare, known, newest_s, recall, remember


def texts(*digests: str, language: str = "go") -> tuple[Text, ...]:
    return tuple(Text(language=language, sha256=one, characters=100) for one in digests)


def records(*digests: str | None) -> list[dict[str, object]]:
    return [{"path": str(d), "sha256": d, "verdict": "train", "rule": "kept"} for d in digests]


def test_only_new_texts_count_and_equal_ones_once():
    now = (*texts("a", "b", "c", "c"), *texts("d", language="c"))
    found = compare(now, {"a", "gone"})
    assert found.by_language == {"go": 2, "c": 1}
    assert found.share == pytest.approx(3 / 5)
    assert compare((), {"a"}).files == 0


@given(
    before=st.frozensets(st.sampled_from("abcdefgh"), min_size=1),
    after=st.lists(st.sampled_from("abcdefghijkl"), max_size=20),
)
def test_going_back_and_renaming_count_nothing(before, after):
    found = compare(texts(*after), before)
    assert found.files == len(set(after) - before)
    # What the last run has seen is no news, in whatever files it is.
    assert compare(texts(*sorted(before)), before | set(after)).files == 0


@pytest.fixture
def registry(tmp_path) -> Registry:
    return Registry(locate(), tmp_path)


def test_the_newest_and_the_active_version_are_known(registry, promote):
    assert known(registry) == frozenset()
    assert newest_s(registry) == 0
    old = promote(registry, "go", version="20260101T000000Z-0001", data=records("old"))
    promote(registry, "go", version="20260102T000000Z-0001", data=records("between"))
    promote(registry, "go", version="20260103T000000Z-0001", data=records("new", None))
    promote(registry, "python", version="20260102T000000Z-0002", data=records("py"))
    before = watch_changes.state(registry)
    registry.activate("go", old.manifest.version)
    assert known(registry) == {"old", "new", "py"}
    assert watch_changes.state(registry) != before
    registry.deactivate("go")
    assert known(registry) == {"new", "py"}
    assert time.gmtime(newest_s(registry))[:3] == (2026, 1, 3)


def test_a_damaged_manifest_is_not_known(registry, promote):
    found = promote(registry, "go", data=records("a"))
    (found.folder / "manifest.json").write_text("[")
    assert known(registry) == frozenset()


def test_a_version_of_no_date_or_of_the_future_is_no_time(registry, promote):
    promote(registry, "go", version="99999999T999999Z-0000")
    assert newest_s(registry) == 0
    promote(registry, "go", version="20990101T000000Z-0000")
    assert newest_s(registry) <= time.time()


def test_memory_reads_back_and_damage_is_forgotten(tmp_path):
    path = tmp_path / "memory.json"
    assert recall(path) == Memory()
    memory = Memory(seen=frozenset({"a", "b"}), ended_s=5.0, failures=2)
    remember(memory, path)
    assert recall(path) == memory
    assert path.stat().st_mode & 0o777 == 0o600
    for damage in ("", "[]", "{}", '{"seen": 1, "ended_s": 0, "failures": 0}', "[" * 10**5):
        path.write_text(damage)
        assert recall(path) == Memory()
