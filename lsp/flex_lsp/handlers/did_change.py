"""``textDocument/didChange``."""

from lsprotocol import types

from flex_lsp.document import Edit
from flex_lsp.session import Session


def handle(session: Session, params: types.DidChangeTextDocumentParams) -> None:
    """Apply the edits, in their order."""
    edits = [_edit(change) for change in params.content_changes]
    session.change(params.text_document.uri, params.text_document.version, edits)


def _edit(change: types.TextDocumentContentChangeEvent) -> Edit:
    if isinstance(change, types.TextDocumentContentChangeWholeDocument):
        return Edit(text=change.text)
    start, end = change.range.start, change.range.end
    return Edit(
        text=change.text, start=(start.line, start.character), end=(end.line, end.character)
    )
