"""Prompts on disk: what was written comes back, and nothing else is believed."""

import os
import time
from pathlib import Path

import numpy as np
import pytest

from flex_assist.engine import kept_files
from flex_assist.engine.kept import WeightsState
from flex_assist.engine.kept_files import KeptFiles, remove_all
from flex_assist.engine.prefix import KeptPrefix

LIMIT = 10_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "prefixes"


@pytest.fixture
def weights(tmp_path: Path) -> WeightsState:
    for name in ("model", "adapter"):
        (tmp_path / name).write_bytes(name.encode() * 9999)
    return (tmp_path / "model", 1, 2, 3), ((tmp_path / "adapter", 4, 5, 6),)


def prefix(seed: int = 0, size: int = 1000) -> KeptPrefix:
    state = np.random.default_rng(seed).integers(0, 256, size).astype(np.uint8)
    return KeptPrefix(tokens=tuple(range(seed, seed + 70)), state=state)


def same(one: KeptPrefix | None, two: KeptPrefix) -> bool:
    return one is not None and one.tokens == two.tokens and bool(np.all(one.state == two.state))


def kept(folder: Path) -> list[Path]:
    return list(folder.glob("*.kv"))


def only_file(folder: Path) -> Path:
    (path,) = kept(folder)
    return path


def test_it_comes_back_and_is_private(folder: Path, weights: WeightsState) -> None:
    files = KeptFiles(folder, LIMIT, "1")
    assert files.read(weights, "a.py") is None
    files.write(weights, "a.py", prefix())
    assert same(KeptFiles(folder, LIMIT, "1").read(weights, "a.py"), prefix())
    files.write(weights, "a.py", prefix(1))
    assert same(files.read(weights, "a.py"), prefix(1))
    if os.name == "posix":
        assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
        assert folder.stat().st_mode & 0o777 == 0o700


def test_only_for_the_same_weights_library_and_document(
    folder: Path, weights: WeightsState, tmp_path: Path
) -> None:
    files = KeptFiles(folder, LIMIT, "1")
    files.write(weights, "a.py", prefix())
    model, adapters = weights
    assert files.read(weights, "b.py") is None
    assert files.read(weights, "") is None
    assert files.read((model, ()), "a.py") is None
    assert files.read(((model[0], 9, 2), adapters), "a.py") is None
    assert KeptFiles(folder, LIMIT, "2").read(weights, "a.py") is None
    # Another content under the same name, time and size.
    data = bytearray(model[0].read_bytes())
    data[-1] ^= 1
    model[0].write_bytes(data)
    assert files.read(weights, "a.py") is None
    model[0].unlink()
    assert files.read(weights, "a.py") is None
    files.write(weights, "a.py", prefix())


def test_what_is_damaged_is_not_there(folder: Path, weights: WeightsState) -> None:
    files = KeptFiles(folder, LIMIT, "1")
    files.write(weights, "a.py", prefix())
    path = only_file(folder)
    data = path.read_bytes()
    for at in (0, 3, 10, len(data) // 2, len(data) - 1):
        wrong = bytearray(data)
        wrong[at] ^= 1
        path.write_bytes(wrong)
        assert files.read(weights, "a.py") is None, at
    for length in (0, 1, 31, 32, 33, len(data) - 1):
        path.write_bytes(data[:length])
        assert files.read(weights, "a.py") is None, length
    # Whole, but of something else.
    for body in (b"\xff\xff\xff\xff{}", b"\0\0\0\x02{}", b"\0\0\0\x02[]", b"\0\0\0\x01{"):
        path.write_bytes(body + kept_files._digest(body))
        assert files.read(weights, "a.py") is None, body
    path.write_bytes(data)
    assert same(files.read(weights, "a.py"), prefix())


@pytest.mark.skipif(os.name != "posix", reason="modes and links of POSIX")
def test_what_others_could_have_written_is_not_read(
    folder: Path, weights: WeightsState, tmp_path: Path
) -> None:
    files = KeptFiles(folder, LIMIT, "1")
    files.write(weights, "a.py", prefix())
    path = only_file(folder)
    path.chmod(0o644)
    assert files.read(weights, "a.py") is None
    path.chmod(0o600)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert files.read(weights, "a.py") is None
    path.unlink()
    os.mkfifo(path, 0o600)
    assert files.read(weights, "a.py") is None
    path.unlink()
    path.mkdir()
    assert files.read(weights, "a.py") is None


def test_the_oldest_go(folder: Path, weights: WeightsState) -> None:
    files = KeptFiles(folder, 5000, "1")
    for number in range(kept_files.MOST_FILES + 2):
        files.write(weights, f"{number}.py", prefix(number, 100))
        os.utime(max(kept(folder), key=lambda one: one.stat().st_mtime_ns), ns=(number, number))
    assert len(kept(folder)) == kept_files.MOST_FILES
    assert files.read(weights, "0.py") is None
    files.write(weights, "large.py", prefix(9, 4000))
    assert len(kept(folder)) < kept_files.MOST_FILES
    files.write(weights, "too large.py", prefix(9, 6000))
    assert files.read(weights, "too large.py") is None


def test_after_everything_was_removed_nothing_is_written(
    folder: Path, weights: WeightsState
) -> None:
    old = KeptFiles(folder, LIMIT, "1")
    old.write(weights, "a.py", prefix())
    remove_all(folder)
    old.write(weights, "a.py", prefix())
    assert not folder.exists()
    # Not even where the next host has begun.
    new = KeptFiles(folder, LIMIT, "1")
    old.write(weights, "a.py", prefix())
    assert kept(folder) == []
    new.write(weights, "a.py", prefix())
    assert same(new.read(weights, "a.py"), prefix())
    remove_all(folder)
    remove_all(folder)


def test_nothing_is_kept_where_it_is_not_wanted(folder: Path, weights: WeightsState) -> None:
    for files in (KeptFiles(None, LIMIT, "1"), KeptFiles(folder, 0, "1")):
        files.write(weights, "a.py", prefix())
        assert files.read(weights, "a.py") is None
    assert not folder.exists()


def test_a_write_that_fails_leaves_nothing(folder: Path, weights: WeightsState) -> None:
    files = KeptFiles(folder, LIMIT, "1")
    (folder / f"{kept_files._key('1', weights, 'a.py')}.kv").mkdir()
    before = sorted(folder.iterdir())
    files.write(weights, "a.py", prefix())
    assert sorted(folder.iterdir()) == before


def test_what_a_killed_host_left_goes(folder: Path, weights: WeightsState) -> None:
    files = KeptFiles(folder, LIMIT, "1")
    for name, age_s in (("old", 120), ("young", 0)):
        (folder / f".{name}.part").write_bytes(b"half")
        changed_s = time.time() - age_s
        os.utime(folder / f".{name}.part", (changed_s, changed_s))
    files.write(weights, "a.py", prefix())
    assert [path.name for path in folder.glob(".*.part")] == [".young.part"]
