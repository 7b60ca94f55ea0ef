"""Listing real checkouts with the real git."""

import os
import shutil
import stat
import subprocess
import time
from pathlib import Path

import pytest

from flex_assist.repository import git
from flex_assist.repository.walk import list_repository

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="no git")


def run_git(root: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.invalid"]
    subprocess.run(
        ["git", "-C", str(root), *identity, "-c", "commit.gpgsign=false", *arguments],
        check=True,
        capture_output=True,
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "repo"
    (root / "sub").mkdir(parents=True)
    run_git(tmp_path, "init", "-q", "-b", "main", str(root))
    for name in ("a.py", "sub/b.py", "ignored.py", "tracked_ignored.py"):
        (root / name).write_text("x = 1\n")
    (root / ".gitignore").write_text("*ignored.py\n")
    run_git(root, "add", "-A")
    run_git(root, "add", "-f", "tracked_ignored.py")
    run_git(root, "commit", "-qm", "first")
    (root / "new.py").write_text("x = 2\n")
    return root


def paths(root: Path) -> list[str]:
    return [entry.path for entry in list_repository(root).entries if entry.objection is None]


def script(path: Path, canary: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\ntouch {canary}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_tracked_and_new_files_are_listed(checkout: Path) -> None:
    listing = list_repository(checkout)
    assert listing.source == "git"
    assert paths(checkout) == [".gitignore", "a.py", "new.py", "sub/b.py", "tracked_ignored.py"]


def test_a_folder_of_a_checkout_is_listed_by_its_own_paths(checkout: Path) -> None:
    (checkout / "sub/ignored.py").write_text("x")
    assert paths(checkout / "sub") == ["b.py"]


def test_a_deleted_file_is_missing(checkout: Path) -> None:
    (checkout / "a.py").unlink()
    found = {one.path: one.objection for one in list_repository(checkout).entries}
    assert found["a.py"] is not None
    assert found["a.py"].rule == "missing"


def test_a_folder_that_the_checkout_around_it_ignores_is_walked(checkout: Path) -> None:
    (checkout / ".git/info/exclude").write_text("/export/\n")
    (checkout / "export").mkdir()
    (checkout / "export/c.py").write_text("x")
    listing = list_repository(checkout / "export")
    assert (listing.source, [one.path for one in listing.entries]) == ("walk", ["c.py"])


def test_the_callers_git_environment_does_not_count(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    assert list_repository(checkout).source == "git"
    assert "tracked_ignored.py" in paths(checkout)


@pytest.mark.skipif(os.name == "nt", reason="shell scripts")
def test_the_checkouts_configuration_runs_nothing(checkout: Path, tmp_path: Path) -> None:
    canary = tmp_path / "EXECUTED"
    program = tmp_path / "evil"
    script(program, canary)
    for hook in ("post-index-change", "fsmonitor-watchman", "post-checkout", "pre-auto-gc"):
        script(checkout / ".git/hooks" / hook, canary)
    for key in ("core.fsmonitor", "core.pager", "core.sshCommand", "core.editor", "diff.external",
                "filter.x.clean", "filter.x.process", "alias.ls-files", "credential.helper",
                "core.alternateRefsCommand"):  # fmt: skip
        run_git(checkout, "config", key, f"!{program}" if key.startswith("alias") else str(program))
    (checkout / ".gitattributes").write_text("* filter=x\n")
    # That these would run is not in doubt for all; for the monitor it is shown here.
    subprocess.run(["git", "-C", str(checkout), "status"], capture_output=True, check=False)
    assert canary.exists()
    canary.unlink()
    assert list_repository(checkout).source == "git"
    assert not canary.exists()


@pytest.mark.skipif(os.name == "nt", reason="shell scripts")
def test_a_git_that_the_repository_brought_along_is_not_run(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary = tmp_path / "EXECUTED"
    script(checkout / "bin/git", canary)
    for search in (str(checkout / "bin"), "bin"):
        monkeypatch.chdir(checkout)
        monkeypatch.setenv("PATH", search + os.pathsep + os.environ["PATH"])
        assert git.tracked_and_new(checkout) is None
    assert not canary.exists()


def test_another_work_tree_in_the_configuration_leads_nowhere(
    checkout: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "private.py").write_text("x")
    run_git(checkout, "config", "core.worktree", str(outside))
    assert "private.py" not in paths(checkout)
    assert "a.py" in paths(checkout)


def test_a_damaged_checkout_is_walked(checkout: Path) -> None:
    (checkout / ".git/index").write_bytes(b"DIRC not an index")
    listing = list_repository(checkout)
    assert listing.source == "walk"
    assert "a.py" in paths(checkout)


@pytest.mark.parametrize("with_git", [True, False])
def test_ten_thousand_files_are_listed_quickly(tmp_path: Path, with_git: bool) -> None:
    for folder in range(100):
        path = tmp_path / f"f{folder:02d}"
        path.mkdir()
        for number in range(100):
            (path / f"m{number}.py").touch()
    (tmp_path / ".gitignore").write_text("*.log\nbuild/\n!keep.log\n/f00/m1?.py\n")
    if with_git:
        run_git(tmp_path, "init", "-q")
    started = time.process_time()
    listing = list_repository(tmp_path)
    # About 0.3 s; generous, because it is to find what grows with the square.
    assert time.process_time() - started < 5
    assert listing.source == ("git" if with_git else "walk")
    assert len(listing.entries) == 10_000 - 10 + 1
