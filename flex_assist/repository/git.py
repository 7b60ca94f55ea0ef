"""Asking git which files a checkout has, without letting the checkout run anything.

A repository's own configuration can name programs (``core.fsmonitor``, hooks, remote helpers).
The command below reads the index and the ignore rules only; whatever could start a program on
that way is switched off on the command line, which outranks the repository's configuration.
"""

import contextlib
import os
import shutil
import subprocess
import threading
from pathlib import Path

TIMEOUT_S = 30.0
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
)


def tracked_and_new(root: Path) -> tuple[str, ...] | None:
    """Paths below ``root``: tracked ones, and new ones that no ignore rule names.

    Sorted, each once. A nested repository appears as its folder, with or without a ``/`` behind.

    Returns:
        None where git cannot say: no git, no checkout, one that belongs to another user and is
        not declared safe, a damaged or bare one, or no answer in time.
    """
    program = _program(root)
    if program is None:
        return None
    settings = [part for setting in _SETTINGS for part in ("-c", setting)]
    command = [
        program,
        "--no-pager",
        *settings,
        "-C",
        os.fspath(root),
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
            timeout=TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode != 0:
        return None
    return tuple(sorted({os.fsdecode(name) for name in done.stdout.split(b"\0") if name}))


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
    settings = [part for setting in _SETTINGS for part in ("-c", setting)]
    try:
        process = subprocess.Popen(
            [program, "--no-pager", "--no-replace-objects", *settings, "-C", os.fspath(root),
             *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
        )  # fmt: skip
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
