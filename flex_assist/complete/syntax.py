"""What a grammar says about a completion: whether the text around it still parses with it."""

import functools
from typing import TYPE_CHECKING

from flex_assist.language import BY_NAME, Language, parser

if TYPE_CHECKING:
    from tree_sitter import Query

# Around the cursor as far as it is parsed; the faults of the edges are the same with and without.
CHARACTERS_BEFORE = 4_000
CHARACTERS_AFTER = 1_000
# So many last lines may go.
MOST_LINES = 2
# Grammars that do not know all that is written in their language.
UNRELIABLE = frozenset({"sql", "css"})
# What is broken already tells nothing about what is added.
MOST_FAULTS = 8


def without_broken_end(before: str, text: str, after: str, language: str | None) -> str:
    """``text`` without the last lines if it parses only without them.

    It counts as parsing where there are no more faults than without any text. Where it does not
    without them either, all of it stays.
    """
    known = BY_NAME.get(language or "")
    if known is None or language in UNRELIABLE or "\n" not in text:
        return text
    before, after = _above(before), after[:CHARACTERS_AFTER]
    allowed = _faults(before + after, known)
    if allowed > MOST_FAULTS or _faults(before + text + after, known) <= allowed:
        return text
    shorter = text
    for _ in range(MOST_LINES):
        shorter = shorter.rpartition("\n")[0].rstrip()
        if not shorter:
            break
        if _faults(before + shorter + after, known) <= allowed:
            return shorter
    return text


def _above(before: str) -> str:
    if len(before) <= CHARACTERS_BEFORE:
        return before
    return before[-CHARACTERS_BEFORE:].partition("\n")[2]


@functools.lru_cache(maxsize=32)
def _faults(text: str, language: Language) -> int:
    """Places where the grammar finds something too much, or too little."""
    from tree_sitter import QueryCursor

    tree = parser(language).parse(text.encode("utf-8", "replace"))
    if not tree.root_node.has_error:
        return 0
    found = QueryCursor(_query(language)).captures(tree.root_node)
    return sum(map(len, found.values()))


@functools.cache
def _query(language: Language) -> "Query":
    from tree_sitter import Query

    grammar = parser(language).language
    assert grammar is not None
    return Query(grammar, "(ERROR) @error (MISSING) @missing")
