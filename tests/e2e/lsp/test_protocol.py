"""The language server as a process: what it answers, and that nothing can bring it down."""

import json
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

URI = "untitled:Untitled-1"
INLINE = "textDocument/inlineCompletion"
MENU = "textDocument/completion"
Params = Callable[..., dict[str, Any]]


def place(line: int, character: int) -> dict[str, int]:
    return {"line": line, "character": character}


def test_it_says_what_it_can_do(scripted: Any) -> None:
    capabilities = scripted.initialize()["capabilities"]
    assert "inlineCompletionProvider" in capabilities
    assert "completionProvider" not in capabilities
    sync = capabilities["textDocumentSync"]
    assert (sync["openClose"], sync["change"]) == (True, 2)
    commands = capabilities["executeCommandProvider"]["commands"]
    assert sorted(commands) == [
        "flex-assist.accepted", "flex-assist.again", "flex-assist.report", "flex-assist.why",
    ]  # fmt: skip


def test_an_editor_without_inline_completion_gets_a_menu(scripted: Any) -> None:
    capabilities = scripted.initialize(capabilities={})["capabilities"]
    assert capabilities["completionProvider"]["triggerCharacters"]
    scripted.open(URI, "x = ma\n")
    asked = {"textDocument": {"uri": URI}, "position": place(0, 6)}
    answer = scripted.request(MENU, asked)
    assert answer["isIncomplete"] is True
    (item,) = answer["items"]
    assert item["textEdit"] == {
        "range": {"start": place(0, 4), "end": place(0, 6)},
        "newText": "ma # x = ma|\n|None",
    }
    assert item["filterText"].startswith("ma")
    assert item["command"]["command"] == "flex-assist.accepted"


def test_ghost_text_its_acceptance_and_why(scripted: Any, params: Params) -> None:
    scripted.initialize()
    scripted.open(URI, "x = 1\ny = 2")
    (item,) = scripted.request(INLINE, params(URI, 0, 5))["items"]
    assert item["insertText"] == " # x = 1|\ny = 2|None"
    assert item["range"] == {"start": place(0, 5), "end": place(0, 5)}
    command = item["command"]
    scripted.request("workspace/executeCommand", {k: command[k] for k in ("command", "arguments")})
    why = scripted.request("workspace/executeCommand", {"command": "flex-assist.why"})
    assert why["accepted"] is True
    assert (why["outcome"], why["line"], why["character"]) == ("shown", 0, 5)
    assert (why["completion"]["adapter"], why["completion"]["reason"]) == ("base", "scripted")
    assert "adapter: base; scripted (python)" in why["text"]
    again = scripted.request("workspace/executeCommand", {"command": "flex-assist.again"})
    assert (again["repeats"], again["completion"]["text"]) == (why["id"], " # x = 1|\ny = 2|None")
    report = scripted.request("workspace/executeCommand", {"command": "flex-assist.report"})
    text = Path(report["path"]).read_text()
    assert '"repeats": "c1"' in text
    assert "x = 1" not in text


def test_nothing_to_say_is_an_empty_list(scripted: Any, params: Params) -> None:
    scripted.initialize(capabilities={})
    scripted.open(URI, "nothing")
    assert scripted.request(INLINE, params(URI, 0, 7)) == []
    asked = {"textDocument": {"uri": URI}, "position": place(0, 7)}
    assert scripted.request(MENU, asked) == {"isIncomplete": True, "items": []}
    assert scripted.request(INLINE, params("file:///not/open.py", 0, 0)) == []


@pytest.mark.parametrize("how", ["newer request", "edit", "close"])
def test_a_superseded_request_is_answered_with_null(
    how: str, start: Any, params: Params, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    client = start(str(Path(__file__).with_name("scripted_server.py")), SCRIPTED_LOG=str(log))
    client.initialize(initializationOptions={"completion": {"debounceMs": 0}})
    client.open(URI, "slow\nfast")
    old = client.ask(INLINE, params(URI, 0, 4))
    client.until(lambda m: m.get("method") == "flexAssist/status")
    time.sleep(0.1)
    if how == "newer request":
        assert (
            client.request(INLINE, params(URI, 1, 4))["items"][0]["insertText"] == " # fast||None"
        )
    elif how == "edit":
        client.edit(URI, 2, {"text": "slower"})
    else:
        client.notify("textDocument/didClose", {"textDocument": {"uri": URI}})
    assert client.answer(old)["result"] is None
    assert log.read_text() == "cancelled slow\n"


def test_of_a_burst_only_the_last_is_computed(scripted: Any, params: Params) -> None:
    scripted.initialize(initializationOptions={"completion": {"debounceMs": 100}})
    scripted.open(URI, "abcdef")
    asked = [scripted.ask(INLINE, params(URI, 0, column)) for column in range(1, 7)]
    answers = [scripted.answer(identity)["result"] for identity in asked]
    assert answers[:-1] == [None] * 5
    assert answers[-1]["items"][0]["insertText"] == " # abcdef||None"


def test_the_surfaces_do_not_supersede_each_other(scripted: Any, params: Params) -> None:
    scripted.initialize(capabilities={})
    scripted.open(URI, "ab")
    ghost = scripted.ask(INLINE, params(URI, 0, 2))
    menu = scripted.ask(MENU, {"textDocument": {"uri": URI}, "position": place(0, 2)})
    assert scripted.answer(ghost)["result"]["items"]
    assert scripted.answer(menu)["result"]["items"]


def test_a_cancelled_request_stops_the_work(start: Any, params: Params, tmp_path: Path) -> None:
    log = tmp_path / "log"
    client = start(str(Path(__file__).with_name("scripted_server.py")), SCRIPTED_LOG=str(log))
    client.initialize(initializationOptions={"completion": {"debounceMs": 0}})
    client.open(URI, "slow")
    asked = client.ask(INLINE, params(URI, 0, 4))
    time.sleep(0.2)
    client.notify("$/cancelRequest", {"id": asked})
    assert client.answer(asked)["error"]["code"] == -32800
    client.request("workspace/executeCommand", {"command": "flex-assist.why"})
    assert log.read_text() == "cancelled slow\n"


@pytest.mark.parametrize(("encoding", "column"), [("utf-8", 12), ("utf-16", 6), ("utf-32", 5)])
def test_positions_in_every_encoding(
    encoding: str, column: int, scripted: Any, params: Params
) -> None:
    capabilities = {
        "general": {"positionEncodings": [encoding]}, "textDocument": {"inlineCompletion": {}},
    }  # fmt: skip
    answer = scripted.initialize(capabilities=capabilities)
    assert answer["capabilities"]["positionEncoding"] == encoding
    # A form feed and U+2028 end a line for Python, and not for the protocol.
    scripted.open(URI, "a\fb\u2028c\n\U0001f600é✓ij")
    units = {"utf-8": (4, 6), "utf-16": (2, 3), "utf-32": (1, 2)}[encoding]
    edited = {"start": place(1, units[0]), "end": place(1, units[1])}
    scripted.edit(URI, 2, {"range": edited, "text": "éü"})
    (item,) = scripted.request(INLINE, params(URI, 1, column))["items"]
    assert item["insertText"] == " # \U0001f600éü✓i|j|None"
    assert item["range"]["start"] == place(1, column)


def test_a_selected_item_of_a_menu_is_gone_on_from(scripted: Any, params: Params) -> None:
    scripted.initialize()
    scripted.open(URI, "x.ap\n")
    selected = {"range": {"start": place(0, 2), "end": place(0, 4)}, "text": "append"}
    asked = params(URI, 0, 4, 1, selectedCompletionInfo=selected)
    (item,) = scripted.request(INLINE, asked)["items"]
    assert item["insertText"] == "append # x.append|\n|None"
    assert item["range"] == selected["range"]


def test_paths_are_relative_to_the_folder(scripted: Any, params: Params) -> None:
    scripted.initialize(
        workspaceFolders=[
            {"uri": "file:///work%20space", "name": "a"},
            {"uri": "file:///work%20space/in/ner", "name": "b"},
        ]
    )
    for uri, path in [
        ("file:///work%20space/m/a.py", "m/a.py"),
        ("file:///work%20space/in/ner/b.py", "b.py"),
        ("file:///elsewhere/c.py", "/elsewhere/c.py"),
        ("vscode-notebook-cell:/work%20space/m/n.ipynb#c1", "m/n.ipynb"),
        ("vscode-notebook-cell:Untitled-1.ipynb#c1", "None"),
    ]:
        scripted.open(uri, "z")
        items = scripted.request(INLINE, params(uri, 0, 1))["items"]
        assert items[0]["insertText"] == f" # z||{path}"


MALFORMED = [
    {"textDocument": {"uri": URI}},
    {"textDocument": 5, "position": {"line": 0, "character": 0}, "context": {"triggerKind": 1}},
    {"textDocument": {"uri": URI}, "position": {"line": -1, "character": "x"}, "context": {}},
    [],
    None,
]


@pytest.mark.parametrize("given", MALFORMED)
def test_malformed_parameters_are_refused(given: Any, scripted: Any, params: Params) -> None:
    scripted.initialize()
    scripted.open(URI, "x")
    assert scripted.answer(scripted.ask(INLINE, given))["error"]["code"] == -32602
    assert scripted.request(INLINE, params(URI, 0, 1))["items"]


def test_nothing_malformed_brings_it_down(scripted: Any, params: Params) -> None:
    scripted.initialize()
    scripted.open(URI, "x")
    for body in (b"{", b"\xff\xfe", b"[]", b"5", b'{"jsonrpc": "2.0"}', b'{"jsonrpc": "1.0"}',
                 b"[" * 100_000, b'{"jsonrpc":"2.0","id":[1],"method":"x"}'):  # fmt: skip
        scripted.write(body)
    scripted.notify("textDocument/didChange", {"textDocument": {"uri": URI}})
    scripted.notify("textDocument/didOpen", None)
    scripted.edit("file:///not/open", 3, {"text": "y"})
    scripted.notify("no/such/notification", {"jsonrpc": "2.0"})
    scripted.notify("$/cancelRequest", {"id": 4711})
    assert scripted.answer(scripted.ask("no/such/method", {}))["error"]["code"] == -32601
    bad_command = {"command": "flex-assist.accepted", "arguments": [{"jsonrpc": "2.0"}, 2, None]}
    assert scripted.request("workspace/executeCommand", bad_command) is None
    assert scripted.request(INLINE, params(URI, 99, 99))["items"][0]["insertText"] == " # x||None"
    errors = [m["error"]["code"] for m in scripted.messages if "error" in m and m["id"] is None]
    assert errors.count(-32700) == 3


def test_requests_out_of_order_are_refused(scripted: Any) -> None:
    assert scripted.answer(scripted.ask(INLINE, {}))["error"]["code"] == -32002
    scripted.initialize()
    assert (
        scripted.answer(scripted.ask("initialize", {"capabilities": {}}))["error"]["code"] == -32600
    )
    scripted.request("shutdown", None)
    assert scripted.answer(scripted.ask("shutdown", None))["error"]["code"] == -32600
    scripted.notify("exit", None)
    assert scripted.process.wait(10) == 0


def test_exit_codes(start: Any) -> None:
    server = str(Path(__file__).with_name("scripted_server.py"))
    polite, rude, gone = start(server), start(server), start(server)
    for client in (polite, rude, gone):
        client.initialize()
    assert polite.leave() == 0
    rude.notify("exit", None)
    assert rude.process.wait(10) == 1
    gone.process.stdin.close()
    assert gone.process.wait(10) == 1


def test_stray_output_never_reaches_the_editor(scripted: Any, params: Params) -> None:
    scripted.initialize()
    scripted.open(URI, "x")
    scripted.request(INLINE, params(URI, 0, 1))
    assert scripted.leave() == 0
    scripted.close()
    assert scripted.stray == b""
    assert b"a stray print" in scripted.stderr
    assert b"a stray write" in scripted.stderr


@pytest.mark.parametrize(
    ("line", "told"), [("fail", "the engine is not well"), ("bug", "KeyError")]
)
def test_an_error_is_told_once_and_is_no_error_answer(
    line: str, told: str, scripted: Any, params: Params
) -> None:
    scripted.initialize()
    scripted.open(URI, f"{line}\nx")
    for _ in range(3):
        assert scripted.request(INLINE, params(URI, 0, 4)) == []
    alarms = [m["message"] for m in scripted.notified("window/showMessage")]
    assert len(alarms) == 1
    assert told in alarms[0]
    assert scripted.request(INLINE, params(URI, 1, 1))["items"]
    states = [status["state"] for status in scripted.notified("flexAssist/status")]
    assert states[-2:] == ["error", "ready"]


def test_bad_options_give_one_message_and_the_defaults(scripted: Any, params: Params) -> None:
    scripted.initialize(
        initializationOptions={"completion": {"debounceMs": -5, "colour": "red"}, "nonsense": {}},
        workspaceFolders=[{"uri": "file:///a", "name": "a"}, {"uri": "file:///b", "name": "b"}],
    )
    for folder in "ab":
        scripted.open(f"file:///{folder}/x.py", "x")
        assert scripted.request(INLINE, params(f"file:///{folder}/x.py", 0, 1))["items"]
    (message,) = scripted.notified("window/showMessage")
    for part in ("completion.debounce_ms = -5", "completion.colour", "'nonsense'"):
        assert part in message["message"]


def test_completions_can_be_turned_off(scripted: Any, params: Params) -> None:
    scripted.initialize(initializationOptions={"completion": {"disabledLanguages": ["python"]}})
    scripted.open(URI, "x")
    scripted.open("untitled:2", "x", "cobol")
    assert scripted.request(INLINE, params(URI, 0, 1)) == []
    assert scripted.request(INLINE, params("untitled:2", 0, 1))["items"]
    changed = {"settings": {"flexAssist": {"completion": {"disabledLanguages": ["unknown"]}}}}
    scripted.notify("workspace/didChangeConfiguration", changed)
    assert scripted.request(INLINE, params("untitled:2", 0, 1)) == []
    assert scripted.request(INLINE, params(URI, 0, 1))["items"]
    why = scripted.request("workspace/executeCommand", {"command": "flex-assist.why"})
    assert why["outcome"] == "shown"


def test_a_language_is_off_in_the_scripts_of_a_file_too(scripted: Any, params: Params) -> None:
    off = {"completion": {"disabledLanguages": ["typescript"]}}
    scripted.initialize(initializationOptions=off)
    scripted.open("untitled:3", '<p>x\n<script lang="ts">\nx\n</script>', "vue")
    assert scripted.request(INLINE, params("untitled:3", 2, 1)) == []
    assert scripted.request(INLINE, params("untitled:3", 0, 4))["items"]


def test_an_editor_that_must_be_asked_for_its_options(scripted: Any, params: Params) -> None:
    capabilities = {"workspace": {"configuration": True}, "textDocument": {"inlineCompletion": {}}}
    scripted.initialize(capabilities=capabilities)
    scripted.open(URI, "x")
    scripted.notify("workspace/didChangeConfiguration", {"settings": None})
    asked = scripted.until(lambda m: m.get("method") == "workspace/configuration")
    assert asked["params"] == {"items": [{"section": "flexAssist"}]}
    scripted.send({"id": asked["id"], "result": [{"completion": {"enabled": False}}]})
    scripted.until(lambda m: m.get("params", {}).get("state") == "off")
    assert scripted.request(INLINE, params(URI, 0, 1)) == []


def test_states_are_told_as_they_change(start: Any, params: Params) -> None:
    client = start(str(Path(__file__).with_name("scripted_server.py")), SCRIPTED_WARM_S="0.2")
    client.initialize()
    client.until(lambda m: m.get("params", {}).get("state") == "ready")
    client.open(URI, "x")
    for _ in range(3):
        client.request(INLINE, params(URI, 0, 1))
    told = [(s["state"], s["language"], s["adapter"]) for s in client.notified("flexAssist/status")]
    assert told == [
        ("starting", None, None), ("loading", None, None), ("ready", None, None),
        ("ready", "python", "base"),
    ]  # fmt: skip
    logged = [entry["message"] for entry in client.notified("window/logMessage")]
    assert logged[-1] == "ready: python: base (scripted)"


def test_code_is_not_logged_unless_asked_for(start: Any, params: Params) -> None:
    client = start("-m", "flex_lsp")
    client.initialize(initializationOptions={"completion": {"enabled": False}})
    client.open(URI, "secret_word")
    client.request(INLINE, params(URI, 0, 1))
    client.ask(INLINE, {"textDocument": "secret_word"})
    assert client.leave() == 0
    client.close()
    assert b"secret_word" not in client.stderr
    assert "secret_word" not in json.dumps(client.notified("window/logMessage"))


def test_initialize_is_answered_while_the_model_loads(start: Any) -> None:
    taken_ms = []
    for _ in range(3):
        started = time.perf_counter()
        client = start("-m", "flex_lsp", "--stdio")
        client.request("initialize", {"processId": None, "rootUri": None, "capabilities": {}})
        taken_ms.append((time.perf_counter() - started) * 1000)
    # From the start of the process. The best of three, since the machine may be busy.
    assert min(taken_ms) < 500, taken_ms


def test_one_editor_over_tcp(start: Any) -> None:
    client = start("-m", "flex_lsp", "--tcp", "127.0.0.1:0")
    found = re.search(rb"127.0.0.1:(\d+)", client.said(b"for one editor"))
    assert found
    port = int(found[1])
    body = b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"capabilities":{}}}'
    with socket.create_connection(("127.0.0.1", port), 5) as editor:
        editor.sendall(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        assert editor.recv(65536).startswith(b"Content-Length: ")
        with socket.create_connection(("127.0.0.1", port), 5) as second:
            assert second.recv(1) == b""
    assert client.process.wait(20) == 1
