"""Merged or not: what decides, and what is kept of it."""

import json
from pathlib import Path

import pytest

from flex_assist.engine import form
from flex_assist.engine.form import Room, Speed, decide
from flex_assist.engine.speeds import MOST_KEPT, Speeds, key_of

ROOM = Room(needed=100, used=0, limit=1000)
SLOW, FAST = Speed(prefill=100.0, decode=10.0), Speed(prefill=100.0, decode=20.0)
MERGED_FAST = {"adapter": SLOW, "merged": FAST}


@pytest.mark.parametrize(
    ("wanted", "room", "speeds", "chosen", "why"),
    [
        ("auto", ROOM, MERGED_FAST, "merged", "1280 ms merged and 2080 ms not"),
        ("auto", ROOM, {"adapter": FAST, "merged": SLOW}, "adapter", "2080 ms merged"),
        ("auto", ROOM, {"adapter": SLOW, "merged": SLOW}, "adapter", "2080 ms merged"),
        ("auto", ROOM, None, "adapter", "not measured"),
        ("auto", Room(needed=2_000_000, used=0, limit=1e6), MERGED_FAST, "adapter", "needs 2 MB"),
        ("auto", Room(needed=100, used=950, limit=1000), MERGED_FAST, "adapter", "left"),
        ("auto", Room(needed=0, used=950, limit=100), MERGED_FAST, "merged", "1280 ms"),
        ("adapter", ROOM, MERGED_FAST, "adapter", "engine.form"),
        ("merged", Room(needed=9, used=9, limit=0), None, "merged", "engine.form"),
    ],
)
def test_memory_and_speed_decide(wanted, room, speeds, chosen: str, why: str) -> None:
    decision = decide(wanted, room, speeds)
    assert decision.form == chosen
    assert why in decision.why


def test_a_little_faster_is_not_worth_the_memory() -> None:
    little = Speed(prefill=101.0, decode=10.1)
    assert decide("auto", ROOM, {"adapter": SLOW, "merged": little}).form == "adapter"


def test_speeds_are_kept_from_one_process_to_the_next(tmp_path: Path) -> None:
    path = tmp_path / "new" / "speeds.json"
    first, other = Speeds(path), Speeds(path)
    assert first.get("a") is None
    first.put("a", MERGED_FAST)
    other.put("b", MERGED_FAST)
    again = Speeds(path)
    assert again.get("a") == again.get("b") == MERGED_FAST
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_oldest_speeds_go(tmp_path: Path) -> None:
    path = tmp_path / "speeds.json"
    found = Speeds(path)
    for number in range(MOST_KEPT + 2):
        found.put(str(number), MERGED_FAST)
    again = Speeds(path)
    assert again.get("1") is None
    assert again.get("2") == MERGED_FAST


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{", '{"schema": 2, "speeds": [["a", {}]]}', '{"schema": 1, "speeds": [1]}',
        "[" * 5000, '{"schema": 1, "speeds": {"a": 1}}',
    ],
)  # fmt: skip
def test_a_damaged_file_is_as_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "speeds.json"
    path.write_text(text)
    found = Speeds(path)
    assert found.get("a") is None
    found.put("a", MERGED_FAST)
    assert Speeds(path).get("a") == MERGED_FAST


@pytest.mark.parametrize("values", [[1.0], [0.0, 1.0], [1.0, True], [1e999, 1.0], "ab", [1, 2]])
def test_speeds_that_are_none_are_not_taken(values: object) -> None:
    whole = form.as_record(MERGED_FAST)
    assert form.from_record(json.loads(json.dumps(whole))) == MERGED_FAST
    assert form.from_record({**whole, "merged": values}) is None


def test_where_it_cannot_be_written_speeds_are_kept_in_memory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = Speeds(tmp_path / "file" / "speeds.json")
    found.put("a", MERGED_FAST)
    assert found.get("a") == MERGED_FAST


def test_keys_tell_files_apart() -> None:
    assert key_of([(Path("a"), 1, 2)], 1) == key_of([(Path("a"), 1, 2)], 1)
    assert key_of([(Path("a"), 1, 2)], 1) != key_of([(Path("a"), 1, 3)], 1)
