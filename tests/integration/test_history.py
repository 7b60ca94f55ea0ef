"""Small commits of real checkouts, by the real git."""

import shutil
import stat
import subprocess
import time
from pathlib import Path

import pytest

from flex_assist.repository import git, history
from flex_assist.repository.history import Commit, small_commits

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="no git")
LINES = [f"value_{number} = {number}\n" for number in range(30)]
# In parts, so that no scanner takes this file for one with a secret.
SECRET = "ghp_" + "x9Kq2Lm8Zt4Wn6Rv1Yc3Bd5Fg7Hj0PsA" + "uVeT"


def run_git(root: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.invalid"]
    command = ["git", "-C", str(root), *identity, "-c", "commit.gpgsign=false", *arguments]
    subprocess.run(command, check=True, capture_output=True)


def commit(root: Path, message: str, **files: str) -> None:
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_py", ".py").replace("_txt", ".txt")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    run_git(root, "add", "-A")
    run_git(root, "commit", "-qm", message)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "repo"
    run_git(tmp_path, "init", "-q", "-b", "main", str(root))
    commit(root, "the beginning of everything", a_py="".join(LINES), held_py="x = 1\n")
    return root


def changed(number: int, line: str) -> str:
    return "".join([*LINES[:number], line + "\n", *LINES[number + 1 :]])


def found(root: Path, *allowed: str) -> list[Commit]:
    return list(small_commits(root, allowed or ("a.py", "sub/b.py")))


def test_a_small_commit_with_its_message_and_places(checkout: Path) -> None:
    message = "Value five becomes six\n\nBecause it must.\n\nSigned-off-by: T <t@example.invalid>"
    commit(checkout, message, a_py=changed(5, "value_5 = 6"))
    (one,) = found(checkout)
    assert one.message == "Value five becomes six\n\nBecause it must."
    (change,) = one.changes
    assert (change.path, change.first_line) == ("a.py", 3)
    assert change.before == "".join(LINES[2:9]).rstrip("\n")
    assert change.after == change.before.replace("value_5 = 5", "value_5 = 6")


def test_the_newest_come_first_and_merges_not_at_all(checkout: Path) -> None:
    run_git(checkout, "checkout", "-qb", "other")
    commit(checkout, "a change on the side", a_py=changed(25, "side = 1"))
    run_git(checkout, "checkout", "-q", "main")
    commit(checkout, "a change on the main line", a_py=changed(2, "line = 1"))
    run_git(checkout, "merge", "-q", "--no-ff", "-m", "both of them together", "other")
    messages = [one.message for one in found(checkout)]
    assert sorted(messages) == ["a change on the main line", "a change on the side"]


def test_what_touches_a_source_file_that_may_not_be_shown_is_left_out(checkout: Path) -> None:
    commit(checkout, "both files at once", a_py=changed(1, "y = 2"), held_py="x = 2\n")
    commit(checkout, "the one file alone", held_py="x = 3\n")
    commit(checkout, "code and its notes", a_py=changed(2, "z = 2"), notes_txt="n\n")
    (one,) = found(checkout)
    assert one.message == "code and its notes"
    assert [change.path for change in one.changes] == ["a.py"]


@pytest.mark.parametrize("place", ["message", "added", "removed"])
def test_a_commit_with_a_secret_is_left_out(checkout: Path, place: str) -> None:
    if place == "message":
        commit(checkout, f"rotate {SECRET}", a_py=changed(1, "y = 2"))
        assert found(checkout) == []
        return
    commit(checkout, "a token comes in", a_py=changed(1, f'token = "{SECRET}"'))
    assert found(checkout) == []
    if place == "removed":
        commit(checkout, "and it goes again", a_py=changed(1, "y = 3"))
        assert found(checkout) == []


def test_large_commits_and_long_lines_are_left_out(checkout: Path) -> None:
    commit(checkout, "all lines at once", a_py="".join(f"w{n} = 1\n" for n in range(30)))
    commit(checkout, "one very long line", a_py=f"x = '{'ab ' * 200}'\n")
    commit(checkout, "more files than few", **{f"new{n}_py": "x = 1\n" for n in range(5)})
    assert found(checkout, "a.py", *(f"new{n}.py" for n in range(5))) == []


def test_names_and_texts_that_look_like_a_diff(checkout: Path) -> None:
    tricky = "-- a/evil.py\n++ b/evil.py\n" + "0" * 40 + "\n@@ -1,9 +1,9 @@\ndiff --git a/x b/x\n"
    commit(checkout, "a file of odd lines", sub__b_py=tricky)
    commit(checkout, "odd lines are changed", sub__b_py=tricky + "\\ No newline at end of file\n")
    last, first = found(checkout)
    assert first.changes[0].path == last.changes[0].path == "sub/b.py"
    assert first.changes[0].before == ""
    assert first.changes[0].after == tricky.rstrip("\n")
    assert last.changes[0].after.endswith("\n\\ No newline at end of file")
    # The last line without a line break: git's own mark is no line.
    commit(checkout, "no line break at the end", sub__b_py="x = 1")
    assert "No newline at end of file" not in found(checkout)[0].changes[0].after


def test_a_folder_of_a_checkout_sees_its_own_paths(checkout: Path) -> None:
    commit(checkout, "a file further in", sub__b_py="x = 1\ny = 2\n")
    commit(checkout, "a change up there", a_py=changed(1, "z = 2"))
    (one,) = found(checkout / "sub", "b.py")
    assert one.changes[0].path == "b.py"


def test_what_is_cut_off_is_not_shown(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(6):
        commit(checkout, f"the change number {number}", a_py=changed(number, f"z = {number}"))
    whole = found(checkout)
    assert len(whole) == 6
    monkeypatch.setattr(history, "MOST_BYTES", 1500)
    cut = found(checkout)
    assert 0 < len(cut) < 6
    assert cut == whole[: len(cut)]


def test_no_checkout_has_no_history(tmp_path: Path) -> None:
    assert found(tmp_path) == []
    run_git(tmp_path, "init", "-q")
    assert found(tmp_path) == []


def test_nothing_of_the_repository_is_run(checkout: Path, tmp_path: Path) -> None:
    commit(checkout, "attributes and a change", a_py=changed(1, "y = 2"))
    (checkout / ".gitattributes").write_text("*.py diff=evil filter=evil\n")
    run_git(checkout, "add", "-A")
    canary, evil = tmp_path / "canary", tmp_path / "evil.sh"
    evil.write_text(f'#!/bin/sh\ntouch {canary}\ncat "$1" 2>/dev/null\n')
    evil.chmod(evil.stat().st_mode | stat.S_IXUSR)
    run_git(checkout, "commit", "-qm", "attributes alone")
    for key in (
        "core.fsmonitor", "core.pager", "diff.external", "diff.evil.command", "diff.evil.textconv",
        "filter.evil.smudge", "filter.evil.clean", "gpg.program", "core.sshCommand",
    ):  # fmt: skip
        run_git(checkout, "config", key, str(evil))
    run_git(checkout, "config", "log.showSignature", "true")
    hook = checkout / ".git" / "hooks" / "post-index-change"
    hook.write_text(evil.read_text())
    hook.chmod(0o755)
    canary.unlink(missing_ok=True)
    assert [one.message for one in found(checkout)] == ["attributes and a change"]
    assert not canary.exists()


def test_a_command_that_does_not_end_is_ended(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = tmp_path / "bin" / "git"
    slow.parent.mkdir()
    slow.write_text("#!/bin/sh\necho something\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", str(slow.parent), prepend=":")
    # Asked of the program once, before.
    monkeypatch.setattr(git, "_excludes_of_user", lambda program: "")
    started_s = time.monotonic()
    assert git.bounded_output(checkout, "rev-list", most_bytes=1 << 20, timeout_s=0.3) is None
    assert git.bounded_output(checkout, "rev-list", most_bytes=9, timeout_s=30.0) == b"something"
    assert time.monotonic() - started_s < 10.0


def test_a_command_that_fails_says_nothing(checkout: Path) -> None:
    assert git.bounded_output(checkout, "no-such-command", most_bytes=10) is None
