"""The meeting place is the user's own."""

import asyncio
import os
import stat
import sys
from pathlib import Path

import pytest

from flex_assist.engine.rendezvous import FileLock, Rendezvous, open_log
from flex_assist.errors import EngineError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="owners and modes of POSIX")


def place(tmp_path: Path) -> Rendezvous:
    return Rendezvous(socket=tmp_path / "run" / "engine.sock", tcp=False)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_folder_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    place(tmp_path).prepare()
    assert mode(tmp_path / "run") == 0o700


def test_a_folder_that_others_can_only_read_is_closed(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run").chmod(0o755)
    place(tmp_path).prepare()
    assert mode(tmp_path / "run") == 0o700


def test_a_folder_that_others_can_write_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run").chmod(0o777)
    with pytest.raises(EngineError, match="others can write"):
        place(tmp_path).prepare()


def test_a_link_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "run").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EngineError, match="not your own"):
        place(tmp_path).prepare()


def test_a_folder_of_somebody_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place(tmp_path).prepare()
    other = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: other)
    with pytest.raises(EngineError, match="not your own"):
        place(tmp_path).prepare()


async def test_socket_and_token_are_private_and_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    meeting = place(tmp_path)
    meeting.prepare()
    meeting.socket.write_text("left behind")
    server = await meeting.listen(lambda reader, writer: None)
    assert stat.S_ISSOCK(meeting.socket.stat().st_mode)
    assert mode(meeting.socket) == 0o600
    assert mode(meeting.token_file) == 0o600
    assert len(meeting.token()) == 64
    before = meeting.identity()
    server.close()
    again = await meeting.listen(lambda reader, writer: None)
    assert meeting.identity() != before
    again.close()


def test_a_token_behind_a_link_does_not_count(tmp_path: Path) -> None:
    meeting = place(tmp_path)
    meeting.prepare()
    (tmp_path / "planted").write_text("secret")
    meeting.token_file.symlink_to(tmp_path / "planted")
    assert meeting.token() == ""


def test_only_one_holds_a_lock(tmp_path: Path) -> None:
    one, two = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert one.acquire()
    assert one.acquire()
    assert not two.acquire()
    one.release()
    assert two.acquire()
    two.release()


def test_a_log_behind_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EngineError, match="log"):
        open_log(tmp_path / "log")


def test_a_log_that_has_grown_large_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"x" * 2_000_000)
    with open_log(tmp_path / "log") as log:
        log.write(b"new")
    assert (tmp_path / "log").read_bytes() == b"new"


async def test_over_tcp_the_port_is_found_in_the_private_folder(tmp_path: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.close()

    meeting = Rendezvous(socket=tmp_path / "run" / "engine.sock", tcp=True)
    meeting.prepare()
    with pytest.raises(OSError, match=r"engine\.port"):
        await meeting.connect()
    server = await meeting.listen(serve)
    assert server.sockets[0].getsockname()[0] == "127.0.0.1"
    assert mode(meeting.port_file) == 0o600
    reader, writer = await meeting.connect()
    assert await reader.read() == b"hello"
    writer.close()
    server.close()
    meeting.withdraw()
    assert meeting.identity() is None
