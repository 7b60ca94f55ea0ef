"""Listing without git, ignore rules, and reading that follows no link."""

import os
import socket
from pathlib import Path

import pytest

from flex_assist.errors import DataError
from flex_assist.repository import git, walk
from flex_assist.repository.documents import Objection
from flex_assist.repository.reading import TreeReader


@pytest.fixture(autouse=True)
def without_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git, "checkout", lambda root: None)


def write(root: Path, **texts: str) -> None:
    for name, text in texts.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def good(root: Path) -> list[str]:
    return [one.path for one in walk.list_repository(root).entries if one.objection is None]


def objections(root: Path) -> dict[str, Objection]:
    entries = walk.list_repository(root).entries
    return {one.path: one.objection for one in entries if one.objection is not None}


def test_ignore_files_count_and_inner_ones_win(tmp_path: Path) -> None:
    names = ["a.py", "a.log", "out/x.py", "sub/b.py", "sub/keep.py", "sub/deep/keep.log"]
    write(tmp_path, **dict.fromkeys(names, "x"))
    write(tmp_path, **{".gitignore": "*.log\n/out/\n", "sub/.gitignore": "*.py\n!keep.*\n"})
    assert good(tmp_path) == [
        ".gitignore", "a.py", "sub/.gitignore", "sub/deep/keep.log", "sub/keep.py",
    ]  # fmt: skip


def test_the_checkouts_own_exclude_file_counts(tmp_path: Path) -> None:
    write(tmp_path, **{".git/info/exclude": "mine.py\n", "mine.py": "x", "yours.py": "x"})
    assert good(tmp_path) == ["yours.py"]


def test_own_ignore_file_gives_a_verdict(tmp_path: Path) -> None:
    write(tmp_path, **{walk.IGNORE_FILE: "secret/\n", "secret/a.py": "x", "b.py": "x"})
    assert good(tmp_path) == [walk.IGNORE_FILE, "b.py"]
    assert objections(tmp_path) == {
        "secret/a.py": Objection(rule="ignored", value=walk.IGNORE_FILE)
    }


def test_own_ignore_file_that_is_a_link_stops_all(tmp_path: Path) -> None:
    (tmp_path / walk.IGNORE_FILE).symlink_to("elsewhere")
    with pytest.raises(DataError, match=r"\.flexassistignore cannot be read \(symlink\)"):
        walk.list_repository(tmp_path)


def test_special_files_are_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, **{"a.py": "x", "inner/b.py": "x", "nested/.git/HEAD": "", "nested/c.py": "x"})
    (tmp_path / "link.py").symlink_to("a.py")
    (tmp_path / "folder_link").symlink_to("inner")
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe.py")
    monkeypatch.chdir(tmp_path)  # A socket's path must be short.
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("sock.py")
    assert good(tmp_path) == ["a.py", "inner/b.py"]
    assert objections(tmp_path) == {
        "link.py": Objection(rule="symlink"),
        "folder_link": Objection(rule="symlink"),
        "loop": Objection(rule="symlink"),
        "pipe.py": Objection(rule="not-a-file", value="pipe"),
        "sock.py": Objection(rule="not-a-file", value="socket"),
        "nested": Objection(rule="nested-repository"),
    }


def test_a_tracked_file_behind_a_linked_folder_is_not_read(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    root = tmp_path / "root"
    write(outside, **{"x.py": "secret"})
    root.mkdir()
    (root / "sub").symlink_to(outside)
    assert TreeReader(root).read("sub/x.py", 100) == Objection(rule="symlink")


@pytest.mark.parametrize(
    "path", ["../x.py", "a/../../x.py", "/etc/passwd", "", "a//b", "./a", "a\0b"]
)
def test_paths_that_leave_the_root_are_refused(tmp_path: Path, path: str) -> None:
    assert TreeReader(tmp_path).read(path, 100) == Objection(rule="outside")


def test_a_file_exchanged_for_a_pipe_does_not_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "a.py")
    monkeypatch.setattr(TreeReader, "obstacle", lambda self, path: None)
    assert TreeReader(tmp_path).read("a.py", 100) == Objection(rule="not-a-file")


def test_a_file_exchanged_for_a_link_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, target="x")
    (tmp_path / "a.py").symlink_to("target")
    monkeypatch.setattr(TreeReader, "obstacle", lambda self, path: None)
    found = TreeReader(tmp_path).read("a.py", 100)
    assert isinstance(found, Objection)
    assert found.rule == "unreadable"


def test_reading_stops_at_the_limit(tmp_path: Path) -> None:
    write(tmp_path, a="0123456789")
    assert TreeReader(tmp_path).read("a", 4) == b"0123"
    assert TreeReader(tmp_path).read("a", 40) == b"0123456789"
    assert TreeReader(tmp_path).read("b", 40) == Objection(rule="missing")


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff.py")).write_text("x")
    assert good(tmp_path) == ["bad\udcff.py"]
    assert TreeReader(tmp_path).read("bad\udcff.py", 10) == b"x"


def test_a_hostile_pattern_neither_hangs_nor_lets_through(tmp_path: Path) -> None:
    name = "a" * 250
    write(tmp_path, **{".gitignore": "sub/" + "*a" * 30 + "*b\n", f"sub/{name}": "x", "c.py": "x"})
    assert good(tmp_path) == [".gitignore", "c.py"]


@pytest.mark.parametrize(
    ("line", "tame"),
    [
        ("**/build/**/*.o", "**/build/**/*.o"),
        ("*a*b*c*d*e", "*"),
        ("x/y*a*b*c*d*e", "x/*"),
        ("!*a*b*c*d*e", None),
        ("# *** * * * * *", "# *** * * * * *"),
    ],
)
def test_patterns_are_widened(line: str, tame: str | None) -> None:
    assert walk._tame(line) == tame


def test_a_root_that_cannot_be_listed(tmp_path: Path) -> None:
    write(tmp_path, a="x")
    for root in (tmp_path / "missing", tmp_path / "a"):
        with pytest.raises(DataError, match="cannot be read as a folder"):
            walk.list_repository(root)
