"""``textDocument/inlineCompletion``: ghost text."""

from lsprotocol import types

from flex_lsp.document import Document
from flex_lsp.handlers import accepted
from flex_lsp.line_index import Encoding
from flex_lsp.session import Query, Session

NOTHING: list[types.InlineCompletionItem] = []


async def answer(
    session: Session, params: types.InlineCompletionParams
) -> types.InlineCompletionList | list[types.InlineCompletionItem] | None:
    """One suggestion, ``[]`` for none (the editor hides its ghost text), or null.

    Null means that a newer request took over: the editor keeps what it shows. It is no error, since
    some editors show people every error.
    """
    document = session.document(params.text_document.uri)
    if document is None:
        return NOTHING
    query, replaced, lead = _query(document, params, session.encoding)
    suggestion = await session.suggest(query)
    if suggestion is None:
        return None
    if not suggestion.text:
        return NOTHING
    # Neovim puts a carriage return into the text as it is; every editor turns \n into its own.
    text = lead + suggestion.text.replace("\r\n", "\n")
    item = types.InlineCompletionItem(
        insert_text=text, range=replaced, command=accepted.attached(suggestion.identity)
    )
    return types.InlineCompletionList(items=[item])


def _query(
    document: Document, params: types.InlineCompletionParams, encoding: Encoding
) -> tuple[Query, types.Range, str]:
    """The question, the range to be replaced, and the text that must come first in it.

    Where a menu shows a selected item, the suggestion must go on from that item.
    """
    position = (params.position.line, params.position.character)
    first = last = document.offset(position, encoding)
    lead = ""
    selected = params.context.selected_completion_info
    if selected is not None:
        start, end = selected.range.start, selected.range.end
        first = document.offset((start.line, start.character), encoding)
        last = document.offset((end.line, end.character), encoding)
        lead = selected.text
    query = Query(
        document=document,
        before=document.text[:first] + lead,
        after=document.text[last:],
        position=position,
        surface="inline",
        invoked=params.context.trigger_kind is types.InlineCompletionTriggerKind.Invoked,
    )
    replaced = types.Range(
        start=types.Position(*document.position(first, encoding)),
        end=types.Position(*document.position(last, encoding)),
    )
    return query, replaced, lead
