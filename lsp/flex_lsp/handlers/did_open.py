"""``textDocument/didOpen``."""

from lsprotocol import types

from flex_lsp.session import Session


def handle(session: Session, params: types.DidOpenTextDocumentParams) -> None:
    """Take over the text."""
    item = params.text_document
    session.open(item.uri, str(item.language_id) or None, item.version, item.text)
