"""``textDocument/didClose``."""

from lsprotocol import types

from flex_lsp.session import Session


def handle(session: Session, params: types.DidCloseTextDocumentParams) -> None:
    """Forget the text."""
    session.close_document(params.text_document.uri)
