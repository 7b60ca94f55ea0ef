"""Fenced code in Markdown: which language a cursor is in, and what of the text is its code.

Source: CommonMark 0.31, section 4.5; fences inside of lists may be indented further.
"""

import re
from dataclasses import dataclass
from pathlib import PurePath

LSP_IDS = frozenset({"markdown", "mdx", "quarto", "rmd", "pandoc"})
EXTENSIONS = frozenset({".md", ".markdown", ".mdx", ".qmd", ".rmd"})
FENCE = re.compile(r"^[ \t]{0,16}(?P<marks>`{3,}|~{3,})(?P<info>[^\n]*)$", re.MULTILINE)
# The first word of what stands behind the marks: ``py``, ``{.py}``, ``py title="x"``.
WORD = re.compile(r"[\s{.]*([\w+#-]{1,32})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fenced:
    """A cursor in fenced code.

    Attributes:
        word: What the fence calls its language; empty where it says nothing.
    """

    word: str
    before: str
    after: str


def is_markdown(path: PurePath | str | None, language_id: str | None) -> bool:
    """Whether a document is Markdown; the editor is believed before the name."""
    if language_id in LSP_IDS:
        return True
    named = path is not None and PurePath(path).suffix.lower() in EXTENSIONS
    return named and language_id in (None, "", "plaintext")


def at_cursor(before: str, after: str) -> Fenced | None:
    """The fenced code around a cursor; None where it is in prose, or in a line of marks."""
    opened: re.Match[str] | None = None
    for found in FENCE.finditer(before):
        if opened is None:
            # Marks with marks behind them are code in a line.
            opened = found if "`" not in found["info"] or found["marks"][0] == "~" else None
        elif _closes(found, opened):
            opened = None
    if opened is None or opened.end() == len(before):
        return None
    line_before = before.rpartition("\n")[2]
    ends = (each for each in FENCE.finditer(after) if each.start() > 0 or not line_before.strip())
    end = next((each.start() for each in ends if _closes(each, opened)), len(after))
    word = WORD.match(opened["info"])
    return Fenced(
        word=word[1] if word else "", before=before[opened.end() + 1 :], after=after[:end]
    )


def _closes(found: re.Match[str], opened: re.Match[str]) -> bool:
    return found["marks"].startswith(opened["marks"]) and not found["info"].strip()
