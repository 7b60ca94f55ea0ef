"""The answer to ``initialize``, given before the server itself is imported.

The types of the whole protocol take longer to import than anything else here. The editor need not
wait for them: what the server can do depends on little. pygls works out the same answer once more,
unsent, and a test holds the two together.
"""

import json
from dataclasses import dataclass
from typing import Any

from flex_assist import __version__
from flex_lsp.line_index import Encoding
from flex_lsp.settings import read_options
from flex_lsp.streams import Streams

SERVER_NAME = "flex-assist"
COMMANDS = ("flex-assist.accepted", "flex-assist.again", "flex-assist.report", "flex-assist.why")
TRIGGER_CHARACTERS = (".", "(", "[", "{", "=", ":", ",")
_INCREMENTAL = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstMessage:
    """What the editor said first, as it came, and whether it has its answer."""

    body: bytes
    answered: bool


def greet(streams: Streams) -> FirstMessage:
    """Read the first message, and answer it if it is ``initialize``."""
    body = _read(streams)
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        return FirstMessage(body=body, answered=False)
    if not _is_initialize(message):
        return FirstMessage(body=body, answered=False)
    answer = {"jsonrpc": "2.0", "id": message["id"], "result": result(message["params"])}
    data = json.dumps(answer).encode()
    streams.write.write(b"Content-Length: %d\r\n\r\n%s" % (len(data), data))
    streams.write.flush()
    return FirstMessage(body=body, answered=True)


def result(params: dict[str, Any]) -> dict[str, Any]:
    """The result of ``initialize`` for these parameters."""
    capabilities: dict[str, Any] = {
        "positionEncoding": _encoding(params).value,
        "textDocumentSync": {"openClose": True, "change": _INCREMENTAL, "save": False},
        "inlineCompletionProvider": {},
        "executeCommandProvider": {"commands": list(COMMANDS)},
        "workspace": {
            "workspaceFolders": {"supported": True, "changeNotifications": True},
            "fileOperations": {},
        },
    }
    if offers_menu(params.get("initializationOptions"), inline=_shows_inline(params)):
        capabilities["completionProvider"] = {"triggerCharacters": list(TRIGGER_CHARACTERS)}
    server = {"name": SERVER_NAME, "version": __version__}
    return {"capabilities": capabilities, "serverInfo": server}


def offers_menu(options: object, *, inline: bool) -> bool:
    """Whether suggestions also come as items of a menu."""
    menu = read_options(options).completion_menu
    return menu == "always" or (menu == "auto" and not inline)


def _read(streams: Streams) -> bytes:
    length = 0
    while (line := streams.read.readline()).strip():
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length" and value.strip().isdigit():
            length = int(value)
    return streams.read.read(length)


def _is_initialize(message: Any) -> bool:
    if not isinstance(message, dict) or message.get("method") != "initialize":
        return False
    params = message.get("params")
    return (
        message.get("jsonrpc") == "2.0"
        and isinstance(message.get("id"), str | int)
        and isinstance(params, dict)
        and isinstance(params.get("capabilities"), dict)
    )


def _encoding(params: dict[str, Any]) -> Encoding:
    """The first of the editor's encodings that we know; UTF-16 is what all must know."""
    offered = _within(params["capabilities"], "general", "positionEncodings")
    known = [each for each in Encoding if each in (offered or [])]
    return min(known, key=list(offered).index) if known else Encoding.UTF16


def _shows_inline(params: dict[str, Any]) -> bool:
    return _within(params["capabilities"], "textDocument", "inlineCompletion") is not None


def _within(capabilities: dict[str, Any], section: str, name: str) -> Any:
    inner = capabilities.get(section)
    return inner.get(name) if isinstance(inner, dict) else None
