"""Files that appear whole, locks between processes, and where things are."""

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from flex_assist.errors import BusyError
from flex_assist.files import write_atomically, write_json_atomically, write_text_atomically
from flex_assist.locations import MAX_SOCKET_PATH, Locations, locate, repository_id
from flex_assist.locks import exclusive


def test_a_file_is_replaced_and_private(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    write_text_atomically(path, "one\r\n")
    write_text_atomically(path, "two é\r\n")
    assert path.read_bytes() == "two é\r\n".encode()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text_atomically(path, "old")

    def fill(part: Path) -> None:
        part.write_text("half of it")
        raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError):
        write_atomically(path, fill)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_is_the_same_every_time(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json_atomically(path, {"b": 1, "a": ["é", "\udcff"]})
    first = path.read_bytes()
    write_json_atomically(path, {"a": ["é", "\udcff"], "b": 1})
    assert path.read_bytes() == first
    assert json.loads(first) == {"a": ["é", "\udcff"], "b": 1}


def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.lock"
    with exclusive(path, what="the repository 'x'"):
        with (
            pytest.raises(BusyError, match=r"the repository 'x' is in use"),
            exclusive(path, what="the repository 'x'"),
        ):
            pass
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
    with exclusive(path, what="it"):
        pass


def test_a_lock_goes_with_the_process_that_held_it(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    code = (
        "import os, sys; from pathlib import Path; from flex_assist.locks import exclusive\n"
        "with exclusive(Path(sys.argv[1]), what='it'): os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == 9
    with exclusive(path, what="it"):
        pass


def test_home_holds_everything(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FLEX_ASSIST_HOME", str(tmp_path / "home"))
    found = locate()
    for path in (found.config_file, found.models, found.adapters, found.conversations,
                 found.engine_log, found.training("x")):  # fmt: skip
        assert path.is_relative_to(tmp_path / "home")
    assert not (tmp_path / "home").exists()
    monkeypatch.delenv("FLEX_ASSIST_HOME")
    assert not locate().data.is_relative_to(tmp_path)


def test_without_a_runtime_folder_nothing_is_put_in_tmp(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("FLEX_ASSIST_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    for _ in range(2):
        assert locate().runtime == tmp_path / "cache" / "flex-assist" / "run"
    (tmp_path / "given").mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "given"))
    assert locate().runtime.is_relative_to(tmp_path / "given")


def test_a_sockets_path_is_never_too_long(tmp_path: Path) -> None:
    def socket(runtime: Path) -> Path:
        return Locations(config=runtime, data=runtime, cache=runtime, runtime=runtime).socket

    assert socket(Path("/run/x")) == Path("/run/x/engine.sock")
    long = socket(Path("/" + "x" * 200))
    assert len(str(long)) <= MAX_SOCKET_PATH
    assert long != socket(Path("/" + "x" * 201))


@pytest.mark.parametrize("name", ["a", "..x", "é ü", "a\nb", "x" * 200, "-", "a\udcff"])
def test_a_repositorys_folder_has_a_safe_name_of_its_own(tmp_path: Path, name: str) -> None:
    found = repository_id(tmp_path / name)
    assert found.replace("-", "").replace(".", "").replace("_", "").isalnum()
    assert found.isascii()
    assert len(found) < 60
    assert not found.startswith((".", "-"))
    assert found != repository_id(tmp_path / "other" / name)


def test_a_link_to_a_repository_is_the_repository(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert repository_id(tmp_path / "link") == repository_id(tmp_path / "real")
