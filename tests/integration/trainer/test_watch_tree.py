"""Following real trees with the real watchdog: bursts, renames, ignored folders, few watches."""

import errno
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flex_assist.repository.walk import list_repository
from flex_trainer import watch_tree
from flex_trainer.watch_notices import Noticed, Notices, folders_of
from flex_trainer.watch_tree import InotifyTree, PolledTree, Tree, WatchesRanOut, open_tree

WAIT_S = 20.0
SILENCE_S = 0.4
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="inotify is of Linux")


class Followed:
    """A tree that is followed, and what was noticed of it."""

    def __init__(self, root: Path, make: Callable[[Path, Notices], Tree] | None = None) -> None:
        self.root, self.notices = root, Notices()
        if make is None:
            self.tree = open_tree(root, self.folders(), self.notices)
        else:
            self.tree = make(root, self.notices)
            self.tree.follow(self.folders())

    def folders(self) -> frozenset[str]:
        return folders_of(list_repository(self.root))

    def anew(self) -> None:
        """List the folders again, as watching does when some came or went."""
        self.tree.follow(self.folders())
        self.notices.take()

    def noticed(self) -> Noticed:
        """What comes next."""
        end_s = time.monotonic() + WAIT_S
        while time.monotonic() < end_s:
            found = self.notices.take()
            if found.events:
                return found
            time.sleep(0.02)
        raise AssertionError(f"nothing was noticed in {WAIT_S:g} s")

    def settled(self) -> int:
        """Wait until nothing more comes; how many events came."""
        count = 0
        while (found := self.notices.take()).events or not count:
            count += found.events
            time.sleep(SILENCE_S)
        return count

    def silent(self) -> bool:
        time.sleep(SILENCE_S)
        return not self.notices.take().events


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    for folder in ("src/deep", "target/debug", "web/node_modules/left-pad"):
        (root / folder).mkdir(parents=True)
        (root / folder / "a.js").write_text("let x = 1\n")
    (root / ".gitignore").write_text("target/\n")
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    return root


@pytest.fixture
def follow(root: Path) -> Iterator[Callable[..., Followed]]:
    made: list[Followed] = []

    def start(*arguments: Callable[[Path, Notices], Tree]) -> Followed:
        made.append(Followed(root, *arguments))
        return made[-1]

    yield start
    for one in made:
        one.tree.close()


def watches() -> int:
    """Of this process, as the kernel counts them."""
    count = 0
    for entry in Path("/proc/self/fdinfo").iterdir():
        try:
            count += entry.read_text().count("inotify wd:")
        except OSError:
            continue
    return count


def polled(root: Path, notices: Notices) -> Tree:
    return PolledTree(root, notices, interval_s=1)


@pytest.fixture(params=["best", "polled"])
def followed(request: pytest.FixtureRequest, follow: Callable[..., Followed]) -> Followed:
    return follow() if request.param == "best" else follow(polled)


def test_a_write_a_rename_and_a_deletion_are_noticed(followed: Followed) -> None:
    file = followed.root / "src/deep/a.js"
    file.write_text("let x = 22\n")
    assert not followed.noticed().folders
    file.rename(file.with_name("b.js"))
    followed.noticed()
    time.sleep(1.2)
    followed.notices.take()
    file.with_name("b.js").unlink()
    followed.noticed()


def test_ignored_folders_cost_nothing(followed: Followed) -> None:
    assert followed.folders() == {"", "src", "src/deep"}
    for folder in ("target/debug", "web/node_modules/left-pad", ".git"):
        (followed.root / folder / "new.js").write_text("let y = 2\n")
        (followed.root / folder / "sub").mkdir()
        (followed.root / folder / "sub/new.js").write_text("let y = 2\n")
    (followed.root / "src/debug.log").write_text("line\n")
    time.sleep(1.2)
    assert followed.silent()


@linux
def test_only_the_folders_that_matter_have_a_watch(follow: Callable[..., Followed]) -> None:
    before = watches()
    followed = follow()
    assert watches() - before == len(followed.folders())
    assert followed.tree.how == "every change is told by the system"


def test_what_comes_in_new_folders_is_noticed(followed: Followed) -> None:
    (followed.root / "new/er").mkdir(parents=True)
    assert followed.noticed().folders
    # No listing names an empty folder: it is followed nevertheless.
    followed.anew()
    (followed.root / "new/er/c.py").write_text("x = 1\n")
    followed.noticed()
    followed.anew()
    (followed.root / "new/er/c.py").write_text("x = 2222\n")
    followed.noticed()


def test_a_folder_that_was_renamed_is_followed_under_its_new_name(followed: Followed) -> None:
    (followed.root / "src").rename(followed.root / "source")
    assert followed.noticed().folders
    time.sleep(1.2)
    followed.anew()
    (followed.root / "source/deep/a.js").write_text("let x = 333\n")
    followed.noticed()
    (followed.root / "source/deep").rename(followed.root / "deep")
    followed.noticed()
    time.sleep(1.2)
    followed.anew()
    (followed.root / "deep/a.js").write_text("let x = 4444\n")
    followed.noticed()


@linux
def test_a_new_ignored_folder_is_let_go_of(follow: Callable[..., Followed]) -> None:
    followed = follow()
    (followed.root / ".gitignore").write_text("target/\nbuilt/\n")
    before = watches()
    for number in range(30):
        (followed.root / f"built/{number}").mkdir(parents=True)
        (followed.root / f"built/{number}/x.js").write_text("let z = 1\n")
    (followed.root / "built/x.js").write_text("let z = 1\n")
    followed.settled()
    followed.anew()
    followed.settled() if not followed.silent() else None
    followed.anew()
    assert watches() == before


@linux
def test_a_burst_of_ten_thousand_files(follow: Callable[..., Followed]) -> None:
    followed = follow()
    for folder in range(100):
        (followed.root / f"pkg{folder}").mkdir()
        for number in range(100):
            (followed.root / f"pkg{folder}/f{number}.py").write_text(f"x = {number}\n")
    assert followed.settled() > 100
    followed.anew()
    assert len(followed.folders()) == 103
    assert followed.silent()
    # After it, every folder is followed.
    for folder in (0, 57, 99):
        (followed.root / f"pkg{folder}/f5.py").write_text("x = 'again'\n")
        followed.noticed()
    shutil.rmtree(followed.root / "pkg57")
    assert followed.noticed().folders
    followed.settled() if not followed.silent() else None


@linux
def test_without_watches_folders_are_looked_through(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's own limit, in a process of its own, where one may set it; else its error."""
    from watchdog.observers.inotify_c import Inotify

    real = Inotify.add_watch

    def scarce(self: Inotify, path: bytes) -> None:
        if path.endswith(b"deep"):
            raise OSError(errno.ENOSPC, "inotify watch limit reached")
        real(self, path)

    monkeypatch.setattr(Inotify, "add_watch", scarce)
    monkeypatch.setattr(watch_tree, "POLL_S", 1)
    before, open_files = watches(), len(os.listdir("/proc/self/fd"))
    followed = Followed(root)
    try:
        assert isinstance(followed.tree, PolledTree)
        assert "inotify watch limit reached for 3 folders" in followed.tree.how
        assert "fs.inotify.max_user_watches" in followed.tree.how
        # Those that it had been given are given back.
        assert watches() == before
        assert len(os.listdir("/proc/self/fd")) <= open_files + 4
    finally:
        followed.tree.close()


@linux
def test_watches_that_run_out_later_are_told(
    follow: Callable[..., Followed], monkeypatch: pytest.MonkeyPatch
) -> None:
    from watchdog.observers.inotify_c import Inotify

    def scarce(self: Inotify, path: bytes) -> None:
        raise OSError(errno.ENOSPC, "inotify watch limit reached")

    followed = follow()
    assert isinstance(followed.tree, InotifyTree)
    monkeypatch.setattr(Inotify, "add_watch", scarce)
    (followed.root / "more").mkdir()
    (followed.root / "more/a.py").write_text("x = 1\n")
    followed.noticed()
    with pytest.raises(WatchesRanOut):
        followed.tree.follow(followed.folders())


def test_links_are_not_followed(followed: Followed, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (followed.root / "link").symlink_to(elsewhere)
    followed.settled()
    followed.anew()
    (elsewhere / "a.py").write_text("x = 1\n")
    time.sleep(1.2)
    assert followed.silent()


@linux
def test_reopening_leaves_nothing_behind(follow: Callable[..., Followed]) -> None:
    followed = follow()
    time.sleep(SILENCE_S)
    before, open_files = watches(), len(os.listdir("/proc/self/fd"))
    for number in range(20):
        (followed.root / f"n{number}").mkdir()
        (followed.root / f"n{number}/a.py").write_text("x = 1\n")
        followed.noticed()
        followed.anew()
        shutil.rmtree(followed.root / f"n{number}")
        followed.noticed()
        followed.anew()
    time.sleep(SILENCE_S)
    assert watches() == before
    assert len(os.listdir("/proc/self/fd")) <= open_files + 3
