"""Following a tree with watchdog, folder by folder: ignored ones cost nothing.

watchdog's own observer for Linux watches every folder below the root, those of ``node_modules`` and
of builds included, and the kernel gives each user only so many watches. Here its interface to
inotify is given exactly the folders that mining lists. Where watches run out, the same folders are
looked through now and then; where the system watches whole trees at no cost (macOS, Windows),
watchdog's observer does.
"""

import contextlib
import errno
import os
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.polling import PollingObserverVFS

from flex_trainer.watch_notices import Notices, is_pruned

POLL_S = 30
# New folders are followed at once, so many of them; then the tree is listed anew.
MOST_NEW_FOLDERS = 2000
SCARCE = (errno.ENOSPC, errno.EMFILE, errno.ENFILE)
# That somebody has opened or read a file.
HARMLESS = frozenset({"opened", "closed_no_write"})


class WatchesRanOut(OSError):
    """The system gives no more watches."""


class Tree(Protocol):
    """A tree that is followed."""

    how: str

    def follow(self, folders: frozenset[str]) -> None:
        """Follow these folders from now on, relative to the root.

        Raises:
            WatchesRanOut: There are too many.
        """
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


def open_tree(root: Path, folders: frozenset[str], notices: Notices) -> Tree:
    """Follow a tree in the best way that there is; ``how`` says which."""
    if sys.platform.startswith("linux"):
        try:
            tree = InotifyTree(root, notices)
            tree.follow(folders)
            return tree
        except WatchesRanOut as error:
            tree.close()
            polled = PolledTree(root, notices)
            polled.how = (
                f"{error.strerror} for {len(folders)} folders: they are looked through every "
                f"{POLL_S} s instead; raise fs.inotify.max_user_watches or max_user_instances to "
                "avoid it"
            )
    elif sys.platform in ("darwin", "win32"):
        return WholeTree(root, notices)
    else:
        polled = PolledTree(root, notices)
    polled.follow(folders)
    return polled


class InotifyTree:
    """One inotify instance with a watch for each folder, and a thread that reads it."""

    def __init__(self, root: Path, notices: Notices) -> None:
        self.how = "every change is told by the system"
        self._root, self._notices = root, notices
        self._watches: Any = None
        self._folders: frozenset[str] = frozenset()
        self._new: set[str] = set()
        self._damaged = False

    def follow(self, folders: frozenset[str]) -> None:
        """See ``Tree``. New folders without files stay: git lists no empty folder."""
        empty = frozenset(path for path in list(self._new) if _has_no_files(self._root / path))
        wanted = folders | empty
        followed = self._folders | self._new
        if wanted == followed and not self._damaged and self._watches is not None:
            return
        before, self._watches = self._watches, None
        try:
            self._watches = self._opened(wanted)
        except WatchesRanOut:
            # The ones before and the new ones may be too many only together.
            _close(before)
            before = None
            self._watches = self._opened(wanted)
        finally:
            _close(before)
        self._folders, self._new, self._damaged = folders, set(empty), False
        reader = threading.Thread(
            target=self._read, args=(self._watches,), name="watch-tree", daemon=True
        )
        reader.start()

    def close(self) -> None:
        """See ``Tree``."""
        watches, self._watches = self._watches, None
        _close(watches)

    def _opened(self, folders: frozenset[str]) -> Any:
        from watchdog.observers.inotify_c import Inotify, InotifyConstants

        mask = (
            InotifyConstants.IN_CREATE | InotifyConstants.IN_DELETE | InotifyConstants.IN_MOVE
            | InotifyConstants.IN_CLOSE_WRITE | InotifyConstants.IN_ONLYDIR
            | InotifyConstants.IN_DONT_FOLLOW
        )  # fmt: skip
        watches = None
        try:
            watches = Inotify(os.fsencode(self._root), recursive=False, event_mask=mask)
            for folder in sorted(folders - {""}):
                _add(watches, self._root / folder)
        except OSError as error:
            if watches is not None:
                # Its own close leaves this to a reader, and there is none yet.
                os.close(watches.fd)
            if error.errno in SCARCE:
                raise WatchesRanOut(error.errno, error.strerror) from error
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                raise
        return watches

    def _read(self, watches: Any) -> None:
        while watches is self._watches:
            try:
                events = watches.read_events()
            except KeyError:
                # watchdog has lost track of a folder that was moved or made again.
                self._damaged = True
                self._notices.lost()
                continue
            except (OSError, ValueError):
                # It was closed.
                return
            for event in events:
                self._take(watches, event)

    def _take(self, watches: Any, event: Any) -> None:
        path = os.path.relpath(os.fsdecode(event.src_path), self._root)
        if path == os.curdir or event.is_ignored:
            return
        if not event.is_directory:
            self._notices.file(path)
            return
        self._notices.folder(path)
        self._damaged |= event.is_move
        if (event.is_create or event.is_moved_to) and not is_pruned(path):
            self._follow_new(watches, path)

    def _follow_new(self, watches: Any, path: str) -> None:
        """Follow a new folder and those in it, until it is known whether they are ignored."""
        pending = [path]
        while pending and len(self._new) < MOST_NEW_FOLDERS:
            folder = pending.pop()
            try:
                _add(watches, self._root / folder)
            except OSError:
                # Too many: the next listing will tell.
                self._damaged = True
                return
            self._new.add(folder)
            pending += [f"{folder}/{name}" for name in _subfolders(self._root / folder)]


class PolledTree:
    """Folders that are looked through now and then, without opening a file."""

    def __init__(self, root: Path, notices: Notices, interval_s: int = POLL_S) -> None:
        self.how = f"folders are looked through every {interval_s} s"
        self._root, self._notices = root, notices
        self._folders: frozenset[str] = frozenset({""})
        self._empty: frozenset[str] = frozenset()
        self._observer = PollingObserverVFS(
            # No link is followed.
            stat=os.lstat,
            listdir=self._listed,
            polling_interval=interval_s,
        )
        self._begun = False

    def follow(self, folders: frozenset[str]) -> None:
        """See ``Tree``. Folders without files stay, as in ``InotifyTree``."""
        self._empty = frozenset(path for path in self._empty if _has_no_files(self._root / path))
        self._folders = folders
        if not self._begun:
            self._begun = True
            self._observer.schedule(_Handler(self._root, self._notices), str(self._root),
                                    recursive=True)  # fmt: skip
            self._observer.start()

    def close(self) -> None:
        """See ``Tree``."""
        if self._begun:
            self._observer.stop()
            self._observer.join()

    def _listed(self, path: str | None) -> Iterator["os.DirEntry[str]"]:
        folder = os.path.relpath(path or os.curdir, self._root).replace(os.sep, "/")
        if is_pruned(folder):
            return iter(())
        with os.scandir(path) as entries:
            found = list(entries)
        if folder == os.curdir or folder in self._folders or folder in self._empty:
            return iter(found)
        if all(entry.is_dir(follow_symlinks=False) for entry in found):
            self._empty |= {folder}
            return iter(found)
        # It is ignored, or the next listing will name it.
        return iter(())


class WholeTree:
    """The system tells of every change below the root."""

    def __init__(self, root: Path, notices: Notices) -> None:
        self.how = "every change is told by the system"
        self._observer = Observer()
        self._observer.schedule(_Handler(root, notices), str(root), recursive=True)
        self._observer.start()

    def follow(self, folders: frozenset[str]) -> None:
        """See ``Tree``; all of them are followed anyway."""

    def close(self) -> None:
        """See ``Tree``."""
        self._observer.stop()
        self._observer.join()


class _Handler(FileSystemEventHandler):
    """From watchdog's events to notices."""

    def __init__(self, root: Path, notices: Notices) -> None:
        self._root, self._notices = root, notices

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Called by watchdog, in its thread."""
        if event.event_type in HARMLESS or (event.is_directory and event.event_type == "modified"):
            return
        for found in filter(None, (event.src_path, getattr(event, "dest_path", ""))):
            path = os.path.relpath(os.fsdecode(found), self._root).replace(os.sep, "/")
            if path == os.curdir:
                continue
            if event.is_directory:
                self._notices.folder(path)
            else:
                self._notices.file(path)


def _add(watches: Any, folder: Path) -> None:
    """Watch a folder; nothing where it has gone or is a link by now."""
    try:
        watches.add_watch(os.fsencode(folder))
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise


def _close(watches: Any) -> None:
    if watches is not None:
        with contextlib.suppress(OSError):
            watches.close()


def _has_no_files(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return all(entry.is_dir(follow_symlinks=False) for entry in entries)
    except OSError:
        return False


def _subfolders(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [
                entry.name
                for entry in entries
                if entry.is_dir(follow_symlinks=False) and not is_pruned(entry.name)
            ]
    except OSError:
        return []


def identity(root: Path) -> tuple[int, int] | None:
    """Which folder a path leads to: device and number; None where there is none."""
    try:
        found = root.stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISDIR(found.st_mode) else None
