"""The server: which method is answered by which handler."""

from collections.abc import Callable
from functools import partial
from typing import Any

from lsprotocol import types
from pygls.lsp.server import LanguageServer

from flex_assist import __version__
from flex_assist.locations import Locations
from flex_lsp.greeting import SERVER_NAME, TRIGGER_CHARACTERS
from flex_lsp.handlers import (
    accepted,
    again,
    completion,
    did_change,
    did_change_configuration,
    did_change_workspace_folders,
    did_close,
    did_open,
    initialize,
    initialized,
    inline_completion,
    report,
    why,
)
from flex_lsp.protocol import StrictProtocol
from flex_lsp.services import Backend
from flex_lsp.session import Session
from flex_lsp.status import Status, StatusBoard

STATUS_METHOD = "flexAssist/status"
_LEVELS = {"error": types.MessageType.Error, "loading": types.MessageType.Info}


class FlexServer(LanguageServer):
    """One editor's server."""

    protocol: StrictProtocol

    def __init__(self, locations: Locations, backend: Backend) -> None:
        super().__init__(SERVER_NAME, __version__, protocol_cls=StrictProtocol)
        board = StatusBoard(self._publish, self._alarm)
        self.session = Session(locations=locations, backend=backend, board=board)
        _wire(self)

    def report_server_error(self, error: Exception, source: Any) -> None:
        """Faults outside of a request go to the editor's log, not into people's way."""
        text = f"{type(error).__name__}: {error}"
        self.window_log_message(types.LogMessageParams(type=types.MessageType.Error, message=text))

    def _publish(self, status: Status) -> None:
        plain = {
            "state": status.state, "message": status.message,
            "language": status.language, "adapter": status.adapter,
        }  # fmt: skip
        self.protocol.notify(STATUS_METHOD, plain)
        level = _LEVELS.get(status.state, types.MessageType.Log)
        text = f"{status.state}: {status.message}"
        self.window_log_message(types.LogMessageParams(type=level, message=text))

    def _alarm(self, message: str) -> None:
        self.window_show_message(
            types.ShowMessageParams(type=types.MessageType.Warning, message=message)
        )


def offer_menu(server: FlexServer) -> None:
    """Answer ``textDocument/completion`` as well: for editors without inline completion."""
    options = types.CompletionOptions(trigger_characters=list(TRIGGER_CHARACTERS))
    _feature(server, types.TEXT_DOCUMENT_COMPLETION, completion.answer, options)


def _wire(server: FlexServer) -> None:
    features: tuple[tuple[str, Callable[..., Any]], ...] = (
        (types.TEXT_DOCUMENT_DID_OPEN, did_open.handle),
        (types.TEXT_DOCUMENT_DID_CHANGE, did_change.handle),
        (types.TEXT_DOCUMENT_DID_CLOSE, did_close.handle),
        (types.WORKSPACE_DID_CHANGE_WORKSPACE_FOLDERS, did_change_workspace_folders.handle),
    )
    for method, handler in features:
        _feature(server, method, handler)
    _feature(
        server, types.TEXT_DOCUMENT_INLINE_COMPLETION, inline_completion.answer,
        types.InlineCompletionOptions(),
    )  # fmt: skip
    server.feature(types.INITIALIZE)(
        partial(initialize.handle, server.session, partial(offer_menu, server))
    )
    ask = partial(did_change_configuration.ask, server)
    server.feature(types.INITIALIZED)(partial(initialized.handle, server.session))
    server.feature(types.WORKSPACE_DID_CHANGE_CONFIGURATION)(
        partial(did_change_configuration.handle, server.session, ask)
    )
    server.command(accepted.COMMAND)(accepted.command(server.session))
    server.command(again.COMMAND)(again.command(server.session))
    server.command(report.COMMAND)(report.command(server.session))
    server.command(why.COMMAND)(why.command(server.session))


def _feature(
    server: FlexServer, method: str, handler: Callable[..., Any], options: Any = None
) -> None:
    server.feature(method, options)(partial(handler, server.session))
