"""A language client made of nothing but JSON and pipes, and servers for it to talk to."""

import asyncio
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flex_assist.config import EngineSettings
from flex_assist.engine.client import HostEngine
from flex_assist.locations import locate

SCRIPTED_SERVER = Path(__file__).with_name("scripted_server.py")
WAIT_S = 20.0


class Client:
    """Speaks to a server process. What the server says is kept; ``until`` waits for it."""

    def __init__(self, arguments: list[str], environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, **environment},
        )  # fmt: skip
        self.messages: list[dict[str, Any]] = []
        self.stray = b""
        self.stderr = b""
        self._arrived = threading.Condition()
        self._ids = itertools.count(1)
        self._readers = [threading.Thread(target=work) for work in (self._read, self._drain)]
        for reader in self._readers:
            reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        stream = self.process.stdout
        while header := stream.readline():
            if not header.lower().startswith(b"content-length:"):
                self.stray += header
                continue
            while stream.readline().strip():
                pass
            message = json.loads(stream.read(int(header.split(b":")[1])))
            with self._arrived:
                self.messages.append(message)
                self._arrived.notify_all()
        with self._arrived:
            self._arrived.notify_all()

    def _drain(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._arrived:
                self.stderr += line
                self._arrived.notify_all()

    def said(self, wanted: bytes) -> bytes:
        """What the server has written to standard error, as soon as it holds ``wanted``."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: wanted in self.stderr, WAIT_S), self.stderr
        return self.stderr

    def write(self, body: bytes) -> None:
        """Send bytes as one message, valid or not."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        self.process.stdin.flush()

    def send(self, message: dict[str, Any]) -> None:
        self.write(json.dumps({"jsonrpc": "2.0", **message}).encode())

    def notify(self, method: str, params: Any) -> None:
        self.send({"method": method, "params": params})

    def ask(self, method: str, params: Any) -> int:
        """Send a request without waiting for its answer. Gives its id."""
        identity = next(self._ids)
        self.send({"id": identity, "method": method, "params": params})
        return identity

    def answer(self, identity: int | None) -> dict[str, Any]:
        """The answer to a request."""
        return self.until(lambda m: "method" not in m and "id" in m and m["id"] == identity)

    def request(self, method: str, params: Any) -> Any:
        """The result of a request, which must be no error."""
        answer = self.answer(self.ask(method, params))
        assert "error" not in answer, answer
        return answer["result"]

    def until(
        self, wanted: Callable[[dict[str, Any]], bool], wait_s: float = WAIT_S
    ) -> dict[str, Any]:
        """The first message that is ``wanted``."""
        end = time.monotonic() + wait_s
        with self._arrived:
            while True:
                for message in self.messages:
                    if wanted(message):
                        return message
                left_s = end - time.monotonic()
                alive = self.process.poll() is None
                assert left_s > 0, f"not in {wait_s:g} s: {self.messages[-3:]}"
                assert alive or self._readers[0].is_alive(), f"it ended: {self.messages[-3:]}"
                self._arrived.wait(min(left_s, 0.2))

    def notified(self, method: str) -> list[Any]:
        """The parameters of all notifications of one kind so far."""
        return [m["params"] for m in list(self.messages) if m.get("method") == method]

    def initialize(self, **params: Any) -> dict[str, Any]:
        """Begin a session; inline completion is what the client can do unless told otherwise."""
        inline = {"textDocument": {"inlineCompletion": {}}}
        given = {"processId": None, "rootUri": None, "capabilities": inline, **params}
        result: dict[str, Any] = self.request("initialize", given)
        self.notify("initialized", {})
        return result

    def open(self, uri: str, text: str, language: str = "python") -> None:
        item = {"uri": uri, "languageId": language, "version": 1, "text": text}
        self.notify("textDocument/didOpen", {"textDocument": item})

    def edit(self, uri: str, version: int, *changes: dict[str, Any]) -> None:
        document = {"uri": uri, "version": version}
        self.notify(
            "textDocument/didChange", {"textDocument": document, "contentChanges": list(changes)}
        )

    def leave(self) -> int:
        """Say good-bye as the protocol asks. Gives the exit code."""
        self.request("shutdown", None)
        self.notify("exit", None)
        return self.process.wait(WAIT_S)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for reader in self._readers:
            reader.join()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()


def inline(uri: str, line: int, character: int, trigger: int = 2, **context: Any) -> dict[str, Any]:
    """Parameters of an inline completion request."""
    return {
        "textDocument": {"uri": uri},
        "position": {"line": line, "character": character},
        "context": {"triggerKind": trigger, **context},
    }


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Client]]:
    """Starts servers with a home of their own; ends them after the test."""
    clients: list[Client] = []

    def starter(*arguments: str, program: str = sys.executable, **environment: str) -> Client:
        home = {"FLEX_ASSIST_HOME": str(tmp_path / "home"), **environment}
        clients.append(Client([program, *arguments], home))
        return clients[-1]

    yield starter
    for client in clients:
        client.close()


@pytest.fixture
def scripted(start: Callable[..., Client]) -> Client:
    """The real server over a model that answers as the text tells it to."""
    return start(str(SCRIPTED_SERVER))


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """The product's folders for the real model; the engine host that was started there ends."""
    yield tmp_path / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLEX_ASSIST_HOME", str(tmp_path / "home"))
        asyncio.run(HostEngine(locate(), EngineSettings()).stop_host())


@pytest.fixture
def params() -> Callable[..., dict[str, Any]]:
    return inline
