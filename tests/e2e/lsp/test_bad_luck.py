"""What must not take an editor down: a killed engine, and documents that nobody expects."""

import asyncio
import os
import signal
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flex_assist.config import EngineSettings
from flex_assist.engine.client import HostEngine
from flex_assist.locations import below

INLINE = "textDocument/inlineCompletion"
FLEX_ASSIST = str(Path(sysconfig.get_path("scripts")) / "flex-assist")
WAIT_S = 60.0
RECOVERED_S = 3.0
# After the last key: the engine has the request, and not answered it.
IN_THE_MIDDLE_S = 0.12
TEXT = "RED = 1\n\n\ndef is_red(colour):\n    return colour == RED\n\n\ndef is_green(colour):\n    "
SETTINGS = {
    "FLEX_ASSIST_COMPLETION_TIMEOUT_S": "60",
    "FLEX_ASSIST_COMPLETION_MAX_TOKENS": "16",
    "FLEX_ASSIST_ENGINE_CONTEXT_TOKENS": "512",
    "FLEX_ASSIST_ENGINE_THREADS": "1",
}
# Ten megabytes; two in one line; brackets without end; characters of all widths.
DOCUMENTS = {
    "large.py": ("def f(x):\n    return x\n" * 450_000, (800_000, 0)),
    "line.js": ("var a=1;" * 250_000, (0, 1_000_000)),
    "minified.json": ('{"k":[' + "1," * 1_000_000, (0, 2_000_000)),
    "deep.py": ("(" * 100_000, (0, 50_000)),
    "odd.py": ("x = '\ufeff\u2028\x0c\x00\ud7ff\U0001f600'\n" * 50, (20, 4)),
    "unknown.zzz": ("some words\n" * 30, (15, 3)),
    "empty.py": ("", (0, 0)),
}


@pytest.fixture
def editor(
    start: Callable[..., Any], cut_starter: Callable[[int], Path], tmp_path: Path, home: Path
) -> Callable[[], Any]:
    """Starts a server with a small model and shows it a folder."""
    (tmp_path / "repository").mkdir()
    small = {"FLEX_ASSIST_MODEL_BASE": str(cut_starter(2)), **SETTINGS}

    def open_editor() -> Any:
        client = start("lsp", program=FLEX_ASSIST, **small)
        folder = {"uri": (tmp_path / "repository").as_uri(), "name": "repository"}
        client.initialize(workspaceFolders=[folder])
        return client

    return open_editor


def process_of(home: Path) -> int:
    """The host's, which must run."""
    status = asyncio.run(HostEngine(below(home), EngineSettings()).host_status())
    assert status is not None
    return int(status["process"])


def ask(client: Any, asked: dict[str, Any]) -> Any:
    """What a request is answered with: never an error."""
    identity = client.ask(INLINE, asked)
    answer = client.until(lambda m: m.get("id") == identity and "method" not in m, WAIT_S)
    assert "error" not in answer, answer
    return answer["result"]


def shown(result: Any) -> str:
    return result["items"][0]["insertText"] if result and "items" in result else ""


def end_of(text: str) -> tuple[int, int]:
    lines = text.split("\n")
    return len(lines) - 1, len(lines[-1])


def test_a_killed_host_costs_each_editor_at_most_one_suggestion(
    editor: Callable[[], Any], params: Callable[..., Any], tmp_path: Path, home: Path
) -> None:
    editors = [editor() for _ in range(2)]
    uri = (tmp_path / "repository" / "colours.py").as_uri()
    words = ["return", "if colour", "colour", "print(", "raise", "assert is_red"]
    missing = [0] * len(editors)
    for client in editors:
        client.open(uri, TEXT)
        assert shown(ask(client, params(uri, *end_of(TEXT), 1)))
    for number, word in enumerate(words):
        text = TEXT + word
        killed_s = time.monotonic()
        if number == 2:
            process = process_of(home)
        pending = []
        for client in editors:
            client.edit(uri, number + 2, {"text": text})
            pending.append(client.ask(INLINE, params(uri, *end_of(text), 1)))
        if number == 2:
            time.sleep(IN_THE_MIDDLE_S)
            os.kill(process, signal.SIGKILL)
        for at, (client, identity) in enumerate(zip(editors, pending, strict=True)):
            answer = client.until(
                lambda m, identity=identity: m.get("id") == identity and "method" not in m, WAIT_S
            )
            assert "error" not in answer
            missing[at] += not shown(answer["result"])
        assert number != 3 or time.monotonic() - killed_s < RECOVERED_S
    assert max(missing) <= 1
    assert process_of(home) != process
    for client in editors:
        assert client.leave() == 0
        assert b"Traceback" not in client.stderr


def test_documents_that_nobody_expects_are_answered(
    editor: Callable[[], Any], params: Callable[..., Any], tmp_path: Path
) -> None:
    client, repository = editor(), tmp_path / "repository"
    good = (repository / "good.py").as_uri()
    client.open(good, TEXT)
    expected = shown(ask(client, params(good, *end_of(TEXT), 1)))
    assert expected
    for name, (text, (line, character)) in DOCUMENTS.items():
        uri = (repository / name).as_uri()
        client.open(uri, text, name.split(".")[-1])
        assert ask(client, params(uri, line, character, 1)) is not None, name
        # A key is answered in time too, whatever the size of the document.
        place = {"line": line, "character": character}
        client.edit(uri, 2, {"range": {"start": place, "end": place}, "text": "a"})
        began_s = time.monotonic()
        ask(client, params(uri, line, character + 1, 1))
        assert time.monotonic() - began_s < RECOVERED_S, name
        client.notify("textDocument/didClose", {"textDocument": {"uri": uri}})
    # A first answer that was cut by its deadline has been written on since.
    assert shown(ask(client, params(good, *end_of(TEXT), 1))).startswith(expected)
    assert client.leave() == 0
    assert b"Traceback" not in client.stderr


def test_a_file_of_invalid_text_beside_the_document_is_no_trouble(
    editor: Callable[[], Any], params: Callable[..., Any], tmp_path: Path
) -> None:
    repository = tmp_path / "repository"
    (repository / "broken.py").write_bytes(b"def caf\xe9():\n    return '\xff\xfe'\n" * 20)
    (repository / "binary.py").write_bytes(bytes(range(256)) * 20)
    client = editor()
    uri = (repository / "good.py").as_uri()
    client.open(uri, TEXT)
    assert shown(ask(client, params(uri, *end_of(TEXT), 1)))
    # A character that is cut in half, as an editor with another idea of positions sends it.
    client.edit(uri, 2, {"text": "x = '\U0001f600"})
    assert ask(client, params(uri, 0, 6, 1)) is not None
    client.write(b'{"jsonrpc": "2.0", "id": 99, "method": "x", "params": "\xff\xfe"}')
    client.edit(uri, 3, {"text": TEXT})
    assert shown(ask(client, params(uri, *end_of(TEXT), 1)))
    assert client.leave() == 0
