"""The network guard of the tests itself: it must hold, and let the machine talk to itself."""

import socket
from pathlib import Path

import pytest

from flex_assist.locations import locate


def test_nothing_leaves_the_machine() -> None:
    with socket.socket() as one, pytest.raises(AssertionError, match=r"192\.0\.2\.1"):
        one.connect(("192.0.2.1", 80))
    with (
        socket.socket(type=socket.SOCK_DGRAM) as one,
        pytest.raises(AssertionError, match="stay on this machine"),
    ):
        one.sendto(b"x", ("192.0.2.1", 53))
    with pytest.raises(AssertionError, match=r"example\.invalid"):
        socket.getaddrinfo("example.invalid", 80)
    with pytest.raises(AssertionError, match=r"example\.invalid"):
        socket.create_connection(("example.invalid", 80), timeout=1)


def test_the_machine_may_talk_to_itself() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        with socket.create_connection(server.getsockname(), timeout=5):
            pass


def test_home_is_the_tests_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    assert locate().data.is_relative_to(tmp_path_factory.getbasetemp())
    assert not locate().data.is_relative_to(Path.home() / ".local")
