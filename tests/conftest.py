"""What holds for every test: a home of its own, and no network."""

import ipaddress
import itertools
import socket
from typing import Any

import pytest
from hypothesis import settings

# No files beside the tests, and no limit by the clock: other processes may be at work.
settings.register_profile("house", database=None, deadline=None)
settings.register_profile("long", parent=settings.get_profile("house"), max_examples=5000)
settings.load_profile("house")

_HOMES = itertools.count(1)


class NetworkError(AssertionError):
    """A test, or the product in it, tried to leave the machine."""


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read from or written to the folders of whoever runs the tests.

    The folder is only named here; the product makes it when it writes.
    """
    home = tmp_path_factory.getbasetemp() / "homes" / str(next(_HOMES))
    monkeypatch.setenv("FLEX_ASSIST_HOME", str(home))


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections within the machine only. Processes that a test starts are on their own."""

    def refuse(host: object) -> None:
        raise NetworkError(f"a connection to {host!r} was tried; tests stay on this machine")

    def guarded(name: str) -> Any:
        original = getattr(socket.socket, name)

        def call(self: socket.socket, *arguments: Any) -> Any:
            if self.family in (socket.AF_INET, socket.AF_INET6):
                host = arguments[-1][0]
                if not _is_loopback(host):
                    refuse(host)
            return original(self, *arguments)

        return call

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, guarded(name))
    resolve = socket.getaddrinfo

    def look_up(host: Any, *arguments: Any, **named: Any) -> Any:
        if host is not None and not _is_loopback(host):
            refuse(host)
        return resolve(host, *arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


def _is_loopback(host: str | bytes) -> bool:
    name = host.decode() if isinstance(host, bytes) else host
    if name in ("localhost", ""):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
