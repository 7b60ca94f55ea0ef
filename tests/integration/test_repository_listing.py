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
        assert git.checkout(checkout) is None
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


def objections(root: Path, **options: bool) -> dict[str, tuple[str, object]]:
    found = list_repository(root, **options).entries
    return {one.path: (one.objection.rule, one.objection.value) for one in found if one.objection}


@pytest.fixture
def with_submodule(checkout: Path, tmp_path: Path) -> Path:
    library = tmp_path / "library"
    run_git(tmp_path, "init", "-q", "-b", "main", str(library))
    (library / "lib.py").write_text("y = 1\n")
    run_git(library, "add", "-A")
    run_git(library, "commit", "-qm", "first")
    allow = ["-c", "protocol.file.allow=always"]
    run_git(checkout, *allow, "submodule", "--quiet", "add", str(library), "deps/lib")
    run_git(checkout, "commit", "-qm", "submodule")
    return checkout


def test_a_submodule_is_learnt_from_where_that_is_wanted(with_submodule: Path) -> None:
    assert objections(with_submodule)["deps/lib"] == ("submodule", "mining.submodules")
    entries = list_repository(with_submodule, submodules=True).entries
    assert "deps/lib/lib.py" in [one.path for one in entries if one.objection is None]


def test_a_submodule_that_is_not_checked_out_gives_nothing(with_submodule: Path) -> None:
    run_git(with_submodule, "submodule", "--quiet", "deinit", "-f", "deps/lib")
    found = objections(with_submodule, submodules=True)
    assert found["deps/lib"] == ("submodule", "not checked out")


def test_a_submodule_that_became_a_link_is_not_followed(
    with_submodule: Path, tmp_path: Path
) -> None:
    shutil.rmtree(with_submodule / "deps/lib")
    (with_submodule / "deps/lib").symlink_to(tmp_path / "library")
    entries = list_repository(with_submodule, submodules=True).entries
    assert not [one for one in entries if one.path.startswith("deps/") and not one.objection]


def test_a_worktree_is_listed_like_the_checkout_and_not_twice(checkout: Path) -> None:
    run_git(checkout, "worktree", "add", "-q", str(checkout / "trees/second"), "-b", "second")
    assert objections(checkout)["trees/second"][0] == "nested-repository"
    assert paths(checkout / "trees/second") == [".gitignore", "a.py", "sub/b.py",
                                                "tracked_ignored.py"]  # fmt: skip
    assert list_repository(checkout / "trees/second").source == "git"


@pytest.mark.parametrize("index", ["--no-sparse-index", "--sparse-index"])
def test_a_sparse_checkout_says_what_it_leaves_out(checkout: Path, index: str) -> None:
    run_git(checkout, "sparse-checkout", "set", "--cone", index, "other")
    assert objections(checkout) == {"sub/b.py": ("sparse-checkout", None)}
    assert "a.py" in paths(checkout)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_a_pipe_for_an_ignore_file_does_not_hang_git(checkout: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    run_git(checkout, "config", "core.excludesFile", str(tmp_path / "pipe"))
    started_s = time.monotonic()
    assert list_repository(checkout).source == "git"
    assert time.monotonic() - started_s < 10


def test_the_users_own_ignore_file_counts(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").write_text("new.py\n")
    (tmp_path / ".gitconfig").write_text(f"[core]\n\texcludesFile = {tmp_path / 'mine'}\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    git._excludes_of_user.cache_clear()
    try:
        assert "new.py" not in paths(checkout)
    finally:
        git._excludes_of_user.cache_clear()


def test_the_newest_commits_tell_what_they_touched(checkout: Path, tmp_path: Path) -> None:
    canary = tmp_path / "EXECUTED"
    script(tmp_path / "evil", canary)
    for key in ("diff.external", "diff.x.textconv", "diff.x.command", "gpg.program"):
        run_git(checkout, "config", key, str(tmp_path / "evil"))
    run_git(checkout, "config", "log.showSignature", "true")
    (checkout / ".gitattributes").write_text("* diff=x\n")
    (checkout / "sub/b.py").write_text("x = 3\n")
    run_git(checkout, "commit", "-qam", "second")
    run_git(checkout, "mv", "a.py", "sub/a.py")
    run_git(checkout, "commit", "-qm", "third")
    touched = [{"a.py", "sub/a.py"}, {"sub/b.py"},
               {".gitignore", "a.py", "sub/b.py", "tracked_ignored.py"}]  # fmt: skip
    assert git.recent_changes(checkout, 10) == touched
    assert git.recent_changes(checkout, 2) == touched[:2]
    assert git.recent_changes(checkout / "sub", 10) == [{"a.py"}, {"b.py"}, {"b.py"}]
    assert len(git.newest_commits(checkout, 20)) == 3
    assert not canary.exists()


def test_a_folder_without_history_has_no_newest_commits(tmp_path: Path) -> None:
    assert git.recent_changes(tmp_path, 5) == []
    assert len(git.newest_commits(tmp_path, 20)) == 0
    run_git(tmp_path, "init", "-q", str(tmp_path / "empty"))
    assert git.recent_changes(tmp_path / "empty", 5) == []


def test_a_commit_that_touches_nothing_ends_nothing(checkout: Path) -> None:
    run_git(checkout, "commit", "-q", "--allow-empty", "-m", "empty")
    (checkout / "a.py").write_text("x = 9\n")
    run_git(checkout, "commit", "-qam", "change")
    assert git.recent_changes(checkout, 2) == [{"a.py"}, set()]
    assert [len(one) for one in git.recent_changes(checkout, 9)] == [1, 0, 4]
    # Below a folder, commits elsewhere touch nothing.
    assert git.recent_changes(checkout / "sub", 9) == [set(), set(), {"b.py"}]
