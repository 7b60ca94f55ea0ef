"""Code inside of strings: SQL in Python, SQL and styles in tagged templates.

A scan of our own, in time that grows with the text alone: a grammar would take longer for each
keystroke, and without end for a text that is made to be slow. What the scan cannot tell is taken
for code of the file's own language.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from flex_assist.repository import markup

# Longer texts before a cursor are not looked through.
MOST_CHARACTERS = 128 * 1024
# So far behind the cursor the end of its string is looked for.
MOST_AFTER = 32 * 1024
# Before the quote, as far as a tag or a string's prefix is looked for.
TAG_CHARACTERS = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """A cursor in a string that holds code.

    Attributes:
        closing: What ends the string.
        one_line: Whether it ends with its line, too.
    """

    language: str
    before: str
    after: str
    closing: str
    one_line: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Quotes:
    """How a language writes strings.

    Attributes:
        token: What begins a string (group ``quote``), or is no string though it may look like one.
        several: Quotes whose strings may have several lines.
        raw: Those in which a backslash is a letter.
    """

    token: re.Pattern[str]
    several: frozenset[str]
    raw: frozenset[str] = frozenset()


_SLASHES = r"//[^\n]*+|/\*(?s:.*?)(?:\*/|\Z)"
_LETTER = r"'(?:[^'\\\n]|\\.)'"
# A slash behind one of these begins a regular expression, which may have any quotes in it.
_EXPRESSION = (
    r"(?<=[=(,:;!&|?{}\[\n])[ \t]*+/(?![*/])"
    r"(?:[^/\\\n\[]|\\.|\[(?:[^\]\\\n]|\\.){0,99}+\]){1,999}+/"
)
_SCRIPT = _Quotes(
    token=re.compile(rf"{_SLASHES}|{_EXPRESSION}|(?P<quote>[\"'`])"), several=frozenset("`")
)
_TEXT_BLOCKS = _Quotes(
    token=re.compile(rf'{_SLASHES}|{_LETTER}|(?P<quote>"""|")'), several=frozenset({'"""'})
)
LANGUAGES: Mapping[str, _Quotes] = {
    "python": _Quotes(
        token=re.compile(r"#[^\n]*+|(?P<quote>\"\"\"|'''|\"|')"),
        several=frozenset({'"""', "'''"}),
    ),
    **dict.fromkeys(("javascript", "typescript", "tsx"), _SCRIPT),
    **dict.fromkeys(("java", "kotlin", "csharp"), _TEXT_BLOCKS),
    "go": _Quotes(
        token=re.compile(rf'{_SLASHES}|{_LETTER}|(?P<quote>["`])'),
        several=frozenset("`"),
        raw=frozenset("`"),
    ),
}
# Words of everyday English do not count in small letters alone.
SQL = re.compile(
    r"""\s*+(?:--[^\n]*+\n\s*+)*+(?:
        SELECT\b
        | (?i:select\b(?=[^;]{1,2000}?\bfrom\b)
          | insert\s+into\b | delete\s+from\b | merge\s+into\b | replace\s+into\b
          | update\s+[\w."`\[\]]+\s+set\b | alter\s+table\b | truncate\s+table\b
          | create\s+(?:or\s+replace\s+)?(?:temp(?:orary)?\s+|unique\s+|materialized\s+)*+
            (?:table|index|view|trigger|function|schema|type)\b
          | drop\s+(?:table|index|view|trigger|function|schema|type)\b
          | with\s+(?:recursive\s+)?\w+\s*(?:\([^)]*\)\s*)?as\s*\()
    )""",
    re.VERBOSE,
)
TAGS = (
    ("sql", re.compile(r"(?:\b|\.)(?:sql|SQL)(?:<[^<>]*>)?\s*$")),
    (
        "css",
        re.compile(r"\b(?:css|keyframes|createGlobalStyle|styled(?:\.\w+|\([^()]*\)))\s*$"),
    ),
)


def at_cursor(language: str, before: str, after: str) -> Embedded | None:
    """The code in the string around a cursor; None where it is in none, or holds none.

    Args:
        language: Of the file.
    """
    quotes = LANGUAGES.get(language)
    if quotes is None or len(before) > MOST_CHARACTERS:
        return None
    opened = _open_string(quotes, before)
    if opened is None:
        return None
    quote, start = opened
    content, rest = before[start:], _rest(quotes, quote, after)
    if _in_expression(language, quote, before[:start], content):
        return None
    embedded = _language(quote, before[max(0, start - TAG_CHARACTERS) : start], content + rest)
    if embedded is None:
        return None
    return Embedded(
        language=embedded,
        before=markup.without_blank_start(content),
        after=rest,
        closing=quote,
        one_line=quote not in quotes.several,
    )


def _open_string(quotes: _Quotes, before: str) -> tuple[str, int] | None:
    """The quote of the string that ``before`` ends in, and where its content starts."""
    at = 0
    while found := quotes.token.search(before, at):
        quote = found["quote"]
        at = found.end()
        if quote is None:
            # In a comment that goes on, nothing is embedded.
            continue
        end = _end(quotes, quote).match(before, at)
        assert end is not None
        if end["closed"] is None and end.end() == len(before):
            return quote, at
        at = end.end()
    return None


def _rest(quotes: _Quotes, quote: str, after: str) -> str:
    """What of ``after`` still belongs to the string; nothing where it has no end nearby."""
    end = _end(quotes, quote).match(after[:MOST_AFTER])
    assert end is not None
    if end["closed"] is None:
        return "" if quote in quotes.several else after[: end.end()]
    return after[: end.start("closed")]


def _end(quotes: _Quotes, quote: str) -> re.Pattern[str]:
    """A string's content, and its closing quote if it has one. Always fits."""
    return _ENDS[quote, quote in quotes.several, quote in quotes.raw]


def _end_pattern(quote: str, several: bool, raw: bool) -> re.Pattern[str]:
    first = re.escape(quote[0])
    inner = rf"[^{first}{'' if raw else chr(92) * 2}{'' if several else chr(92) + 'n'}]"
    alternatives = [inner]
    if not raw:
        alternatives.append(r"\\(?s:.)" if several else r"\\.")
    if len(quote) == 3:
        alternatives.append(rf"{first}(?!{first}{first})")
    return re.compile(rf"(?:{'|'.join(alternatives)})*+(?P<closed>{re.escape(quote)})?")


_ENDS = {
    (quote, several, raw): _end_pattern(quote, several, raw)
    for quote, several, raw in (
        ('"', False, False), ("'", False, False), ('"""', True, False), ("'''", True, False),
        ("`", True, False), ("`", True, True),
    )
}  # fmt: skip


def _in_expression(language: str, quote: str, before: str, content: str) -> bool:
    """Whether the cursor is in code of the file's own inside of the string."""
    if quote == "`" and language != "go":
        return content.rfind("${") > content.rfind("}")
    if language == "python" and re.search(r"[fF][rR]?$|[rR][fF]$", before[: -len(quote)][-2:]):
        plain = content.replace("{{", "").replace("}}", "")
        return plain.rfind("{") > plain.rfind("}")
    return False


def _language(quote: str, opening: str, text: str) -> str | None:
    """The language of a string's text, by a template's tag or by how it begins."""
    if quote == "`":
        tag = opening[: -len(quote)]
        tagged = next((name for name, pattern in TAGS if pattern.search(tag)), None)
        if tagged is not None:
            return tagged
    return "sql" if SQL.match(text) else None
