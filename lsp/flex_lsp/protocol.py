"""JSON-RPC as strict as the protocol asks: every request gets exactly one answer.

What pygls 2.1 leaves out: a request whose parameters are malformed, one before ``initialize`` or
after ``shutdown``, and text that is no JSON stay without an answer there; and its own store of
documents counts lines in another way than the protocol does, so that store is switched off.
"""

import json
import logging
import threading
from typing import Any

from lsprotocol import types
from pygls.exceptions import JsonRpcException
from pygls.protocol import LanguageServerProtocol, lsp_method

SERVER_NOT_INITIALIZED = int(types.ErrorCodes.ServerNotInitialized)
INVALID_REQUEST = int(types.ErrorCodes.InvalidRequest)
INVALID_PARAMS = int(types.ErrorCodes.InvalidParams)
PARSE_ERROR = int(types.ErrorCodes.ParseError)

_OURS_ALONE = (
    types.TEXT_DOCUMENT_DID_OPEN,
    types.TEXT_DOCUMENT_DID_CHANGE,
    types.TEXT_DOCUMENT_DID_CLOSE,
    types.NOTEBOOK_DOCUMENT_DID_OPEN,
    types.NOTEBOOK_DOCUMENT_DID_CHANGE,
    types.NOTEBOOK_DOCUMENT_DID_CLOSE,
    types.WORKSPACE_DID_CHANGE_WORKSPACE_FOLDERS,
)

logger = logging.getLogger(__name__)


class StrictProtocol(LanguageServerProtocol):
    """The protocol of one connection."""

    def __init__(self, server: Any, converter: Any) -> None:
        super().__init__(server, converter)
        self.stopped = threading.Event()
        self._initialized = False
        self._answered: str | int | None = None
        for method in _OURS_ALONE:
            self.fm.builtin_features.pop(method, None)

    @property
    def exit_code(self) -> int:
        """0 only if the editor said ``shutdown`` before it went."""
        return 0 if self._shutdown else 1

    def receive(self, body: bytes, *, answered: bool) -> None:
        """Act on a message that somebody else has read; ``answered``: and answered."""
        try:
            message = json.loads(body)
        except (ValueError, RecursionError) as error:
            self.refuse_text(error)
            return
        self._answered = message["id"] if answered else None
        self.handle_message(message)

    def structure_message(self, data: dict[str, Any]) -> Any:
        """Leave objects as they are while JSON is read; ``handle_message`` gives them types."""
        return data

    def handle_message(self, message: Any) -> None:
        """Answer or act on one message; a fault in it is answered, not raised."""
        if not isinstance(message, dict) or message.get("jsonrpc") != self.VERSION:
            self._refuse(message, INVALID_REQUEST, "this is no JSON-RPC 2.0 message")
            return
        method = message.get("method")
        if method is not None and (refusal := self._out_of_order(method)) is not None:
            self._refuse(message, *refusal)
            return
        try:
            typed = super().structure_message(message)
        except JsonRpcException:
            self._refuse(message, INVALID_PARAMS, f"the parameters of {method!r} are malformed")
            return
        self._initialized |= method == types.INITIALIZE
        super().handle_message(typed)

    def refuse_text(self, error: Exception) -> None:
        """Answer what could not be read at all."""
        logger.warning("a message could not be read: %s", type(error).__name__)
        self._answer(None, PARSE_ERROR, "this is no JSON text")

    @lsp_method(types.EXIT)
    def lsp_exit(self, *args: Any) -> None:  # type: ignore[override]
        """Let the reading loop end; the process then leaves in good order."""
        self.stopped.set()

    def _out_of_order(self, method: str) -> tuple[int, str] | None:
        if method == types.EXIT:
            return None
        if self._shutdown:
            return INVALID_REQUEST, f"{method!r} came after shutdown"
        if not self._initialized and method != types.INITIALIZE:
            return SERVER_NOT_INITIALIZED, f"{method!r} came before initialize"
        if self._initialized and method == types.INITIALIZE:
            return INVALID_REQUEST, "initialize came twice"
        return None

    def _refuse(self, message: Any, code: int, text: str) -> None:
        logger.warning("refused: %s", text)
        if not isinstance(message, dict):
            self._answer(None, code, text)
        elif "id" in message and ("method" in message or "result" not in message):
            identity = message["id"]
            known = isinstance(identity, str | int) and not isinstance(identity, bool)
            self._answer(identity if known else None, code, text)

    def _send_response(
        self, msg_id: str | int, result: Any = None, error: types.ResponseError | None = None
    ) -> None:
        if msg_id == self._answered:
            self._answered = None
        else:
            super()._send_response(msg_id, result, error)

    def _answer(self, identity: str | int | None, code: int, text: str) -> None:
        # Written out here, because lsprotocol drops an id that is null.
        if identity is not None and identity == self._answered:
            return
        error = {"code": code, "message": text}
        self._send_data({"jsonrpc": self.VERSION, "id": identity, "error": error})
