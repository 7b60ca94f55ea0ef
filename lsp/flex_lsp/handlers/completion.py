"""``textDocument/completion``: the same suggestion as an item of a menu."""

import re

from lsprotocol import types

from flex_lsp.document import Document
from flex_lsp.handlers import accepted
from flex_lsp.line_index import Encoding
from flex_lsp.session import Query, Session, Suggestion

LABEL_CHARACTERS = 60
_WORD_BEFORE = re.compile(r"\w*\Z")


async def answer(session: Session, params: types.CompletionParams) -> types.CompletionList | None:
    """A list of one item or none, or null where a newer request took over.

    The list is marked incomplete, so that the editor asks again at the next key.
    """
    document = session.document(params.text_document.uri)
    if document is None:
        return types.CompletionList(is_incomplete=True, items=[])
    position = (params.position.line, params.position.character)
    offset = document.offset(position, session.encoding)
    query = Query(
        document=document,
        before=document.text[:offset],
        after=document.text[offset:],
        position=position,
        surface="menu",
        # Editors say "invoked" for typed word characters too, so that it tells nothing.
        invoked=False,
    )
    suggestion = await session.suggest(query)
    if suggestion is None:
        return None
    items = [_item(document, offset, suggestion, session.encoding)] if suggestion.text else []
    return types.CompletionList(is_incomplete=True, items=items)


def _item(
    document: Document, offset: int, suggestion: Suggestion, encoding: Encoding
) -> types.CompletionItem:
    """The item replaces the word before the cursor by itself and the suggestion.

    Editors compare the word under the cursor with ``filterText``, so the text must begin with it.
    """
    line_start = document.starts[document.position(offset, encoding)[0]]
    match = _WORD_BEFORE.search(document.text[line_start:offset])
    word = match.group() if match else ""
    text = word + suggestion.text
    replaced = types.Range(
        start=types.Position(*document.position(offset - len(word), encoding)),
        end=types.Position(*document.position(offset, encoding)),
    )
    return types.CompletionItem(
        label=label(text),
        label_details=types.CompletionItemLabelDetails(description=suggestion.adapter),
        kind=types.CompletionItemKind.Snippet if "\n" in text else types.CompletionItemKind.Text,
        detail="FLeX-Assist",
        documentation=text if "\n" in text else None,
        sort_text="0",
        filter_text=text.splitlines()[0],
        insert_text_format=types.InsertTextFormat.PlainText,
        insert_text_mode=types.InsertTextMode.AsIs,
        text_edit=types.TextEdit(range=replaced, new_text=text),
        command=accepted.attached(suggestion.identity),
    )


def label(text: str) -> str:
    """A text in one short line."""
    first, *rest = [line.strip() for line in text.split("\n") if line.strip()]
    short = first[:LABEL_CHARACTERS]
    return short + ("…" if rest or len(first) > LABEL_CHARACTERS else "")
