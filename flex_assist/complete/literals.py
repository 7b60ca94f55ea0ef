"""Where a text is code, and where it is a string or a comment: brackets and line ends there count
for nothing.

A scanner, not a parser: what is being written is seldom whole, and the answer for a text must not
change when more of it comes.
"""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass

# So far back it is looked whether the cursor is in a literal.
LOOKED_BACK = 32 * 1024
FILLER = "_"

_DOUBLE = r"\"(?:\\.|[^\"\\\n])*+(?:\"|\\?$)"
_SINGLE = r"'(?:\\.|[^'\\\n])*+(?:'|\\?$)"
# A quoted letter; a lone quote is something else there: a lifetime, a digit separator.
_LETTER = r"'(?:\\[^\n']{1,10}|\\'|[^'\\\n])'"
_SLASHES = r"//[^\n]*+"
_HASH = r"#[^\n]*+"
_BLOCK = r"/\*(?s:.*?)(?:\*/|\Z)"
_TRIPLE = r"\"\"\"(?s:\\.|.)*?(?:\"\"\"|\Z)|'''(?s:\\.|.)*?(?:'''|\Z)"
_TEXT_BLOCK = r"\"\"\"(?s:\\.|.)*?(?:\"\"\"|\Z)"
_TEMPLATE = r"`(?s:\\.|[^`\\])*+(?:`|\\?\Z)"
_RAW = r"`[^`]*+(?:`|\Z)"
_EXPRESSION = r"(?<=[=(,:;!&|?{}\[\n])[ \t]*+/(?![*/])(?:[^/\\\n\[]|\\.|\[(?:[^\]\\\n]|\\.)*+\])++/"
_HEREDOC = (
    r"<<<?[-~]?[ \t]?(?P<mark>['\"]?)(?P<word>[A-Za-z_]\w*)(?P=mark)[^\n]*\n"
    r"(?s:.*?)(?:^[ \t]*(?P=word)\b|\Z)"
)
# Not in "$#" or "${#name}".
_SHELL_HASH = r"(?<![^\s;(&|])#[^\n]*+"
_RUST_RAW = r"\br(?P<hashes>#*)\"(?s:.*?)(?:\"(?P=hashes)|\Z)"

_C = (_SLASHES, _BLOCK, _DOUBLE, _LETTER)
_SCRIPT = (_SLASHES, _BLOCK, _EXPRESSION, _DOUBLE, _SINGLE, _TEMPLATE)
_TEXT_BLOCKS = (_SLASHES, _BLOCK, _TEXT_BLOCK, _DOUBLE, _LETTER)
_RULES: Mapping[str, tuple[str, ...]] = {
    "python": (_HASH, _TRIPLE, _DOUBLE, _SINGLE),
    **dict.fromkeys(("javascript", "typescript", "tsx"), _SCRIPT),
    **dict.fromkeys(("java", "kotlin", "csharp"), _TEXT_BLOCKS),
    "go": (_SLASHES, _BLOCK, _DOUBLE, _LETTER, _RAW),
    "rust": (_SLASHES, _BLOCK, _RUST_RAW, _DOUBLE, _LETTER),
    **dict.fromkeys(("c", "cpp"), _C),
    "ruby": (_HASH, _HEREDOC, _DOUBLE, _SINGLE),
    "php": (_SLASHES, r"#(?!\[)[^\n]*+", _BLOCK, _HEREDOC, _DOUBLE, _SINGLE),
    "shell": (_SHELL_HASH, _HEREDOC, _DOUBLE, _SINGLE),
    "css": (_BLOCK, _DOUBLE, _SINGLE),
    "sql": (r"--[^\n]*+", _BLOCK, _DOUBLE, r"'(?:''|[^'])*+(?:'|\Z)"),
}  # fmt: skip
_ANY = (_DOUBLE, _SINGLE)
_OPENING = re.compile(r"r#*\"|\"\"\"|'''|[\"'`]|//|/\*|--|#")
_CLOSING = {"/*": "*/", "//": "", "#": "", "--": ""}


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A string or comment that is not closed yet.

    Attributes:
        opening: All that is needed in front of a text to read it as going on from here.
        closing: What ends it; empty for the end of the line.
    """

    opening: str
    closing: str


def masked(text: str, language: str | None, opened: Opened | None = None) -> str:
    """``text``, as long as it is, with nothing but fillers in literals: no line ends, no brackets.

    The line end behind a comment is none of it.

    Args:
        language: The name; None knows only strings on one line.
        opened: What ``text`` begins in.
    """
    lead = opened.opening if opened is not None else ""
    filled = _rules(language).sub(lambda found: FILLER * len(found[0]), lead + text)
    return filled[len(lead) :]


def opened_at_end(before: str, language: str | None) -> Opened | None:
    """The literal that the end of a text is in; None in code."""
    if len(before) > LOOKED_BACK:
        before = before[-LOOKED_BACK:].partition("\n")[2]
    return _opened_at_end(before, language)


@functools.lru_cache(maxsize=16)
def _opened_at_end(text: str, language: str | None) -> Opened | None:
    last = None
    for last in _rules(language).finditer(text):  # noqa: B007
        pass
    if last is None or last.end() < len(text):
        return None
    # Either it ends just here, or it goes on: whatever follows tells.
    goes_on = masked(last[0] + "(", language).endswith(FILLER)
    return _opened(last) if goes_on else None


def _opened(found: re.Match[str]) -> Opened:
    groups = found.re.groupindex
    word = found["word"] if "word" in groups else None
    if word:
        first = found[0].partition("\n")[0]
        return Opened(opening=f"{first}\n", closing=word)
    start = _OPENING.search(found[0])
    opening = start[0] if start else found[0][:1]
    return Opened(opening=opening, closing=_CLOSING.get(opening, opening.lstrip("r")[::-1]))


@functools.cache
def _rules(language: str | None) -> re.Pattern[str]:
    return re.compile("|".join(_RULES.get(language or "", _ANY)), re.MULTILINE)
