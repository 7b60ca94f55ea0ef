"""``workspace/didChangeWorkspaceFolders``."""

from lsprotocol import types

from flex_lsp.handlers.initialize import folders
from flex_lsp.session import Session


def handle(session: Session, params: types.DidChangeWorkspaceFoldersParams) -> None:
    """Folders come and go."""
    session.change_roots(folders(params.event.added), folders(params.event.removed))
