"""``initialize``: what the editor can do and wants. Answered before anything heavy is loaded."""

from collections.abc import Callable, Sequence
from pathlib import Path

from lsprotocol import types
from pygls.capabilities import ServerCapabilitiesBuilder

from flex_lsp.document import file_path
from flex_lsp.greeting import offers_menu
from flex_lsp.line_index import Encoding
from flex_lsp.session import Session


def handle(
    session: Session, offer_menu: Callable[[], None], params: types.InitializeParams
) -> None:
    """Take over the editor's options; the answer itself is pygls's."""
    chosen = ServerCapabilitiesBuilder.choose_position_encoding(params.capabilities)
    session.configure(params.initialization_options, Encoding(chosen), roots(params))
    if offers_menu(params.initialization_options, inline=shows_inline(params.capabilities)):
        offer_menu()


def roots(params: types.InitializeParams) -> list[Path]:
    """The folders that are open, of whichever of the protocol's three ways the editor uses."""
    if params.workspace_folders:
        return folders(params.workspace_folders)
    if params.root_uri:
        path = file_path(params.root_uri)
        return [Path(path)] if path is not None else []
    return [Path(params.root_path)] if params.root_path else []


def folders(listed: Sequence[types.WorkspaceFolder]) -> list[Path]:
    """The folders of a workspace that are on this machine."""
    paths = [file_path(folder.uri) for folder in listed]
    return [Path(path) for path in paths if path is not None]


def shows_inline(capabilities: types.ClientCapabilities) -> bool:
    """Whether the editor knows inline completion."""
    text_document = capabilities.text_document
    return text_document is not None and text_document.inline_completion is not None
