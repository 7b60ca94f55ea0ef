"""Asking git what a checkout holds and what changed last, without letting it run anything.

A repository's own configuration can name programs (``core.fsmonitor``, hooks, remote helpers).
The commands below read the index, the ignore rules and commits only; whatever could start a
program on that way is switched off on the command line, which outranks the repository's
configuration.
"""

import contextlib
import functools
import os
import shutil
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

TIMEOUT_S = 30.0
SUBMODULE_MODE = b"160000"
_ENVIRONMENT = (
    "PATH",
    "HOME",
    "USERPROFILE",
    "XDG_CONFIG_HOME",
    "SYSTEMROOT",
    "TMPDIR",
    "TEMP",
    "TMP",
    "LD_LIBRARY_PATH",
)
_SETTINGS = (
    "core.fsmonitor=false",
    f"core.hooksPath={os.devnull}",
    "core.untrackedCache=false",
    "safe.bareRepository=explicit",
    "submodule.recurse=false",
    "protocol.allow=never",
    # What is read line by line.
    "core.quotePath=false",
    "diff.suppressBlankEmpty=false",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkout:
    """What git says of a folder.

    Attributes:
        paths: Tracked files, and new ones that no ignore rule names; sorted, each once. A nested
            repository appears as its folder, with or without a ``/`` behind.
        submodules: Those of the paths that are submodules.
        absent: Those that a sparse checkout leaves out of the working tree.
    """

    paths: tuple[str, ...]
    submodules: frozenset[str] = frozenset()
    absent: frozenset[str] = frozenset()


def checkout(root: Path) -> Checkout | None:
    """The files below ``root`` as git sees them.

    Returns:
        None where git cannot say: no git, no checkout, one that belongs to another user and is
        not declared safe, a damaged or bare one, or no answer in time.
    """
    listed = _ask(root, "ls-files", "-z", "-t", "-s", "--cached", "--others", "--exclude-standard")
    if listed is None:
        return None
    paths, submodules, absent = set(), set(), set()
    for record in filter(None, listed.split(b"\0")):
        # "? path" of new files; "H 100644 digest stage<tab>path" of tracked ones.
        facts, _, name = (b"?", b"", record[2:]) if record[:1] == b"?" else record.partition(b"\t")
        path = os.fsdecode(name)
        paths.add(path)
        if facts[2:8] == SUBMODULE_MODE:
            submodules.add(path)
        if facts[:1] == b"S":
            absent.add(path)
    return Checkout(
        paths=tuple(sorted(paths)), submodules=frozenset(submodules), absent=frozenset(absent)
    )


def newest_commits(root: Path, count: int) -> list[str]:
    """The digests of at most ``count`` commits, the one that is checked out first.

    Empty where git cannot say.
    """
    listed = _ask(root, "rev-list", f"--max-count={count}", "HEAD")
    return (listed or b"").decode("ascii", "replace").split()


def recent_changes(root: Path, count: int) -> list[frozenset[str]]:
    """The paths (relative to ``root``) that each of the newest commits touched, newest first.

    Merges touch nothing. Empty where git cannot say.
    """
    commits = _ask(root, "rev-list", "--no-merges", f"--max-count={count}", "HEAD")
    if not commits:
        return []
    # Plumbing: it asks no signature program, no external diff and no text conversion.
    listed = _ask(
        root, "diff-tree", "--stdin", "-z", "-r", "--root", "--relative", "--no-renames",
        "--name-only", "--no-ext-diff", "--no-textconv", "--always",
        given=commits,
    )  # fmt: skip
    if listed is None:
        return []
    changes: list[set[str]] = []
    expected = set(commits.split())
    for name in listed.split(b"\0"):
        if name.strip() in expected:
            changes.append(set())
            # A file may have such a name.
            expected.remove(name.strip())
        elif name and changes:
            changes[-1].add(os.fsdecode(name))
    return [frozenset(one) for one in changes]


def _ask(root: Path, *arguments: str, given: bytes | None = None) -> bytes | None:
    """What a git command writes; None where it fails or takes too long."""
    program = _program(root)
    if program is None:
        return None
    return _run(_command(program, root, arguments), given)


def _command(program: str, root: Path, arguments: Sequence[str]) -> list[str]:
    """The command line of git with everything off that would run a program."""
    chosen = (*_SETTINGS, f"core.excludesFile={_excludes_of_user(program)}")
    settings = [part for setting in chosen for part in ("-c", setting)]
    general = ["--no-pager", "--no-replace-objects", *settings]
    return [program, *general, "-C", os.fspath(root), *arguments]


def _run(
    command: list[str], given: bytes | None = None, folder: Path | None = None
) -> bytes | None:
    try:
        done = subprocess.run(
            command,
            input=given or b"",
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
            cwd=folder,
            timeout=TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


@functools.cache
def _excludes_of_user(program: str) -> str:
    """The user's own ignore file: a repository's setting could name a pipe in its place."""
    asked = [program, "config", "--global", "--type=path", "--get", "core.excludesFile"]
    found = _run(asked, folder=Path(os.sep))
    if found and found.strip():
        return os.fsdecode(found.rstrip(b"\n"))
    folder = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    return os.path.join(folder, "git", "ignore")


def _program(root: Path) -> str | None:
    found = shutil.which("git")
    if found is None or not os.path.isabs(found):
        return None
    # A search path with "." in it, or the Windows rule to look in the current folder first, must
    # not end at a program that the repository brought along.
    if Path(os.path.realpath(found)).is_relative_to(root.resolve()):
        return None
    return found


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    return kept | {
        "LC_ALL": "C",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ALLOW_PROTOCOL": "none",
        "GIT_NO_LAZY_FETCH": "1",
    }


def bounded_output(
    root: Path, *arguments: str, given: bytes = b"", most_bytes: int, timeout_s: float = TIMEOUT_S
) -> bytes | None:
    """The beginning of what a plumbing command writes, with everything that runs programs off.

    Args:
        given: Its standard input; at most some hundred lines.
        most_bytes: What lies behind is not read; the command is ended then, as after ``timeout_s``.

    Returns:
        None where git cannot say.
    """
    program = _program(root)
    if program is None:
        return None
    try:
        process = subprocess.Popen(
            _command(program, root, arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
        )
    except OSError:
        return None
    watch = threading.Timer(timeout_s, process.kill)
    watch.start()
    with process:
        try:
            return _read(process, given, most_bytes)
        finally:
            watch.cancel()
            process.kill()


def _read(process: "subprocess.Popen[bytes]", given: bytes, most_bytes: int) -> bytes | None:
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(OSError):
        process.stdin.write(given)
        process.stdin.close()
    found = process.stdout.read(most_bytes)
    if len(found) == most_bytes:
        return found
    return found if process.wait() == 0 else None
