"""Bad input, each through the real program: one clear message, the right exit code, no traceback,
and what was there before still works.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flex_assist.adapters.registry import AdapterVersion, Registry
from flex_assist.locations import Locations
from flex_assist.locks import exclusive
from flex_assist.models.catalogue import catalogue, packaged_file

PROGRAM = Path(sys.executable).with_name("flex-assist")
FAILED, USAGE = 1, 2
TIMEOUT_S = 90
VERSION = "20260101T000000Z-0001"
CODE = "def area(width, height):\n    return width * height\n\n\nprint(area(2, 3))\n"
# What root may do to any file, taken from a process: then it meets permissions as others do.
PLAIN = ["setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner"]


def run(
    home: Path, *arguments: str | Path, plain: bool = False, stdin: bytes = b""
) -> "subprocess.CompletedProcess[bytes]":
    command = [str(PROGRAM), *(str(one) for one in arguments)]
    if plain and os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root may write anywhere here, and setpriv is not installed")
        command = [*PLAIN, *command]
    return subprocess.run(
        command,
        input=stdin,
        capture_output=True,
        env={**os.environ, "FLEX_ASSIST_HOME": str(home)},
        timeout=TIMEOUT_S,
        check=False,
    )


def check(done: "subprocess.CompletedProcess[bytes]", code: int, *said: str) -> str:
    """One message on standard error, nothing on standard output, no traceback."""
    message = done.stderr.decode()
    assert done.returncode == code, message
    assert done.stdout == b""
    assert "Traceback" not in message
    lines = [line for line in message.split("\n") if line.strip()]
    assert len(lines) == 1, message
    assert lines[0].startswith("flex-assist: ")
    for text in said:
        assert text in message, message
    return message


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("home")
    yield home
    # The engine host that a completion started would stay for its idle time.
    run(home, "engine", "stop")


@pytest.fixture
def repository(tmp_path: Path, home: Path, promote: Callable[..., AdapterVersion]) -> Path:
    """A small repository with an adapter that answers for it."""
    root = tmp_path / "repository"
    root.mkdir()
    (root / "main.py").write_text(CODE)
    found = Locations(
        config=home / "config", data=home / "data", cache=home / "cache", runtime=home / "run"
    )
    promote(Registry(found, root), version=VERSION)
    return root


def check_untouched(home: Path, repository: Path) -> None:
    """The adapter from before is there and active, and nothing half written is."""
    done = run(home, "adapters", "list", "--repo", repository, "--json")
    adapters = json.loads(done.stdout)["adapters"]
    assert [(one["version"], one["active"]) for one in adapters] == [(VERSION, True)]
    left = [path for path in home.rglob("*") if path.name.startswith(".")]
    assert left == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)],
        capture_output=True, check=False,
    )  # fmt: skip
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted: {mounted.stderr.decode().strip()}")
    try:
        yield disk
    finally:
        # A host that was stopped hangs up before it ends.
        until_s = time.monotonic() + 10
        while subprocess.run(["umount", str(disk)], capture_output=True, check=False).returncode:
            assert time.monotonic() < until_s, "somebody still uses the disk"
            time.sleep(0.1)


def test_an_empty_folder(home: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    check(run(home, "adapt", empty, "--budget", "20s"), FAILED, str(empty), "no source code")
    assert list(empty.iterdir()) == []


def test_a_folder_that_is_not_there(home: Path, tmp_path: Path) -> None:
    for path in (tmp_path / "absent", PROGRAM):
        check(run(home, "adapt", path), FAILED, repr(str(path)), "is not a folder")


def test_no_git_repository_is_needed(home: Path, repository: Path) -> None:
    done = run(home, "adapt", repository, "--dry-run", "--json")
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout)["languages"]["python"]
    assert done.stderr == b""


def test_no_supported_language(home: Path, repository: Path) -> None:
    (repository / "main.py").rename(repository / "main.txt")
    check(run(home, "adapt", repository, "--budget", "20s"), FAILED, "supported language")
    check_untouched(home, repository)


def test_too_little_code(home: Path, repository: Path) -> None:
    message = check(run(home, "adapt", repository, "--budget", "20s"), FAILED, "python")
    assert "little" in message or "few" in message
    check_untouched(home, repository)


def test_unknown_languages(home: Path, repository: Path) -> None:
    place = f"{repository / 'main.py'}:1:1"
    check(run(home, "complete", place, "--language", "cobol"), USAGE, "'cobol'", "known: ", "go")
    done = run(home, "adapt", repository, "--dry-run", "--language", "cobol")
    check(done, USAGE, "'cobol'", "known: ", "go")
    check_untouched(home, repository)


def test_an_unknown_model(home: Path, repository: Path) -> None:
    check(run(home, "adapt", repository, "--base", "gpt"), USAGE, "'gpt'", "smollm2-135m")
    check_untouched(home, repository)


def test_an_unknown_adapter(home: Path, repository: Path) -> None:
    done = run(home, "complete", f"{repository / 'main.py'}:1:1", "--adapter", "../x")
    assert done.returncode == USAGE
    done = run(home, "adapters", "show", "ruby", "--repo", repository)
    check(done, USAGE, "'ruby'", "adapters here: python")
    done = run(home, "adapters", "show", "../x/" + VERSION, "--repo", repository)
    assert done.returncode in (FAILED, USAGE)
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("fault", ["cut", "html", "garbage"])
def test_a_model_that_is_none(home: Path, repository: Path, tmp_path: Path, fault: str) -> None:
    path = tmp_path / "model.gguf"
    whole = packaged_file(catalogue()["smollm2-135m"]).read_bytes()
    data = {
        "cut": whole[:3_000_000],
        "html": b"<html><body>404 Not Found</body></html>" * 9,
        "garbage": whole[:64] + os.urandom(4096),
    }[fault]
    path.write_bytes(data)
    check(run(home, "adapt", repository, "--base", path), FAILED, str(path))
    check_untouched(home, repository)


@pytest.mark.parametrize(
    ("place", "code", "said"),
    [
        ("absent.py:1:1", FAILED, "No such file"),
        (".:1:1", FAILED, "Is a directory"),
        ("main.py:99:1", USAGE, "line 99 is past the end"),
        ("main.py", USAGE, "PATH:LINE:COLUMN"),
        ("bytes.py:1:1", FAILED, "not UTF-8"),
    ],
)
def test_a_place_that_is_none(
    home: Path, repository: Path, place: str, code: int, said: str
) -> None:
    (repository / "bytes.py").write_bytes(b"x = '\xff'\n")
    check(run(home, "complete", f"{repository}/{place}"), code, said)


def test_standard_input_that_is_no_text(home: Path) -> None:
    check(run(home, "complete", "a.py:1:1", "--stdin", stdin=b"\xff\n"), FAILED, "standard input")


def test_wrong_settings(home: Path, repository: Path, tmp_path: Path) -> None:
    (repository / ".flexassist.toml").write_text("[engine]\nthreads = 2\n[prompt]\nx = 1\n")
    done = run(home, "config", "show", "--repo", repository)
    assert done.returncode == USAGE
    assert b"engine.threads may not be set by a repository" in done.stderr
    assert b"prompt.x is unknown" in done.stderr
    assert b"Traceback" not in done.stderr


def test_no_write_permission(repository: Path, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    done = run(locked / "home", "adapt", repository, "--budget", "20s", plain=True)
    check(done, FAILED, str(locked), "Permission denied", "FLEX_ASSIST_HOME")
    assert list(locked.iterdir()) == []


def test_a_repository_that_cannot_be_read(home: Path, repository: Path) -> None:
    (repository / "main.py").chmod(0)
    done = run(home, "adapt", repository, "--dry-run", "--json", plain=True)
    assert done.returncode == 0, done.stderr.decode()
    assert b"unreadable" in done.stdout or b"permission" in done.stdout.lower()
    done = run(home, "complete", f"{repository / 'main.py'}:1:1", plain=True)
    check(done, FAILED, "Permission denied")


def test_a_full_disk(repository: Path, small_disk: Path) -> None:
    (small_disk / "before").write_text("still here")
    done = run(small_disk / "home", "adapt", repository, "--budget", "20s")
    check(done, FAILED, "No space left", "FLEX_ASSIST_HOME")
    assert (small_disk / "before").read_text() == "still here"
    left = [path for path in small_disk.rglob("*") if path.suffix in (".part", ".gguf")]
    assert left == []


def test_completing_on_a_full_disk(repository: Path, small_disk: Path) -> None:
    """There is no room for the base in the form that is fastest: it answers as it came."""
    line = f"{repository / 'main.py'}:1:1"
    done = run(small_disk / "home", "complete", line, "--json")
    try:
        assert done.returncode == 0, done.stderr.decode()
        assert json.loads(done.stdout)["source"] == "model"
    finally:
        run(small_disk / "home", "engine", "stop")


def test_a_second_adapt_at_the_same_time(home: Path, repository: Path) -> None:
    found = Locations(config=home, data=home / "data", cache=home, runtime=home)
    with exclusive(Registry(found, repository).lock_file, what="the repository"):
        done = run(home, "adapt", repository, "--budget", "20s")
        check(done, FAILED, str(repository), "in use by another process")
        check_untouched(home, repository)


def test_cases_that_are_none(home: Path, tmp_path: Path) -> None:
    cases = tmp_path / "cases.jsonl"
    cases.write_text('{"id": 1}\n')
    check(
        run(home, "bench", "completions", "--cases", cases), FAILED, "cases.jsonl:1 has no 'path'"
    )
    done = run(home, "bench", "completions", "--cases", cases, "--repo", tmp_path / "absent")
    check(done, USAGE, "absent", "not a folder")
    done = run(home, "bench", "completions", "--cases", cases, "--out", tmp_path / "no" / "out")
    check(done, USAGE, "make its folder")


def test_a_pipe_is_not_completed_in(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "f.py")
    check(run(tmp_path / "home", "complete", f"{tmp_path / 'f.py'}:1:1"), 1, "is not a file")


def test_control_characters_of_a_repository_do_not_reach_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(CODE)
    (tmp_path / ".flexassist.toml").write_text('[mining]\n"\\u001b[2J" = 3\n')
    message = check(run(tmp_path / "home", "adapt", "--dry-run", tmp_path), 2, "is unknown")
    assert "\x1b" not in message
    assert "\\x1b[2J" in message


def test_all_folders_are_private(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (tmp_path / "a.py").write_text(CODE)
    run(home, "adapt", "--budget", "20s", tmp_path)
    run(home, "complete", f"{tmp_path / 'a.py'}:5:1")
    run(home, "engine", "stop")
    folders = [path for path in (home, *home.rglob("*")) if path.is_dir()]
    assert len(folders) > 2
    assert {oct(path.stat().st_mode & 0o777) for path in folders} == {"0o700"}
