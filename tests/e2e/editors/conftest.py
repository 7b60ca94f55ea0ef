"""Where the editors are, and the server that they start."""

import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

from flex_assist.config import EngineSettings
from flex_assist.engine.client import HostEngine
from flex_assist.locations import locate

CHECKOUT = Path(__file__).parents[3]
SCRIPTED_SERVER = CHECKOUT / "tests" / "e2e" / "lsp" / "scripted_server.py"
OLDEST_NEOVIM = (0, 12)


class Neovim:
    """A Neovim without a screen, driven over its MessagePack-RPC on two pipes."""

    def __init__(self, program: str, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [program, "--embed", "--headless", "--clean"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, **environment},
        )  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._write, self._read = self._process.stdin, self._process.stdout
        self._unpacker = msgpack.Unpacker(raw=False, strict_map_key=False)
        self._number = 0

    def call(self, method: str, *arguments: Any) -> Any:
        """What an API function gives."""
        self._number += 1
        self._write.write(msgpack.packb([0, self._number, method, arguments]))
        self._write.flush()
        while True:
            for message in self._unpacker:
                if message[:2] == [1, self._number]:
                    assert message[2] is None, message[2]
                    return message[3]
            data = os.read(self._read.fileno(), 65536)
            assert data, "Neovim has ended"
            self._unpacker.feed(data)

    def lua(self, code: str, *arguments: Any) -> Any:
        """What a piece of Lua returns."""
        return self.call("nvim_exec_lua", code, arguments)

    def type(self, keys: str) -> None:
        """Press keys."""
        self.call("nvim_input", keys)

    def lines(self) -> list[str]:
        """The text of the buffer."""
        found: list[str] = self.call("nvim_buf_get_lines", 0, 0, -1, False)
        return found

    def line(self) -> str:
        """The text of the cursor's line."""
        return str(self.call("nvim_get_current_line"))

    def close(self) -> None:
        """End it, and with it the servers that it started."""
        self._write.write(msgpack.packb([2, "nvim_command", ["qall!"]]))
        self._write.flush()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._write.close()
        self._read.close()


def neovim_version(program: str) -> tuple[int, int] | None:
    """Major and minor version; None if it does not run."""
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.match(r"NVIM v(\d+)\.(\d+)", said.stdout)
    return (int(found[1]), int(found[2])) if found else None


@pytest.fixture(scope="session")
def neovim() -> str:
    """Neovim 0.12 or later; the test is skipped, with the reason, where there is none."""
    given = os.environ.get("FLEX_ASSIST_NVIM")
    known = [given] if given else [shutil.which("nvim"), str(CHECKOUT / ".cache/nvim/nvim")]
    for program in known:
        version = neovim_version(program) if program else None
        if program and version and version >= OLDEST_NEOVIM:
            return program
    pytest.skip(
        "no Neovim >= 0.12: run tests/e2e/editors/get_neovim.sh, or set FLEX_ASSIST_NVIM"
        + (f" ({given!r} is none)" if given else "")
    )


@pytest.fixture
def neovim_class() -> type[Neovim]:
    """What drives it."""
    return Neovim


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The product's folders, shared by the tests that load the real model; its host ends after."""
    folder = tmp_path_factory.mktemp("home")
    yield folder
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLEX_ASSIST_HOME", str(folder))
        asyncio.run(HostEngine(locate(), EngineSettings()).stop_host())


@pytest.fixture
def scripted_command() -> list[str]:
    """The server over a scripted model: it answers with an echo of the line."""
    return [sys.executable, str(SCRIPTED_SERVER)]


@pytest.fixture
def real_command() -> list[str]:
    """The server as users start it."""
    return [sys.executable, "-m", "flex_lsp", "--stdio"]
