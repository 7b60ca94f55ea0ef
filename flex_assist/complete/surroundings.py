"""The text around a cursor: what is open there, how it is indented, and how much may follow."""

import functools
import re
from dataclasses import dataclass

from flex_assist.complete.literals import Opened, masked, opened_at_end

OPENERS = {"(": ")", "[": "]", "{": "}"}
CLOSERS = frozenset(OPENERS.values())
BLOCK_OPENING = re.compile(r"([:{(\[]|=>|->|\bdo|\bthen|\belse)\s*$")
QUOTES = frozenset("\"'`")
# Around the cursor brackets are counted so far; a longer text is not judged by them.
CHARACTERS_COUNTED = 32 * 1024
LINES_BELOW = 40
# So far the lines around tell how a file is indented.
CHARACTERS_READ = 4_000


OPENING_WORD = re.compile(r"\b(do|then|else)\s*$")
# Not where the same line ends it, or only a condition stands behind.
RUBY_OPENING = re.compile(
    r"\s*(?:def|class|module|if|unless|while|until|case|begin|for)\b(?!.*(?:\bend\b|[=;]\s*$))"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """The text around the cursor, in LF line ends.

    Attributes:
        language: The name; None where it is unknown.
    """

    before: str
    after: str
    language: str | None = None

    @property
    def line_before(self) -> str:
        """The cursor's line up to the cursor."""
        return self.before[self.before.rfind("\n") + 1 :]

    @property
    def line_after(self) -> str:
        """The cursor's line from the cursor on."""
        end = self.after.find("\n")
        return self.after if end < 0 else self.after[:end]

    @property
    def indentation(self) -> int:
        """Columns of white space at the start of the cursor's line."""
        return indentation_of(self.line_before) if self.line_before else 0

    @property
    def opens_block(self) -> bool:
        """True right after something whose body goes on the following lines."""
        return bool(BLOCK_OPENING.search(self.last_line)) or self.opens_with_word

    @property
    def opens_with_word(self) -> bool:
        """True right after something whose body a word ends: ``end``, ``fi``, ``done``."""
        line = self.last_line
        by_ruby = self.language == "ruby" and bool(RUBY_OPENING.match(line))
        return by_ruby or bool(OPENING_WORD.search(line))

    @property
    def has_body_below(self) -> bool:
        """True where the next line is indented deeper: the body of the cursor's line is there."""
        below = self.after[:CHARACTERS_COUNTED].partition("\n")[2].partition("\n")[0]
        return bool(self.line_before and below.strip() and indentation_of(below) > self.indentation)

    @property
    def lines_below(self) -> list[str]:
        """The nearest lines below the cursor's."""
        return self.after[:CHARACTERS_COUNTED].split("\n")[1 : LINES_BELOW + 1]

    @property
    def last_line(self) -> str:
        """The last line before the cursor that says something."""
        # Never the whole text: this is asked at each token, and a file may be long.
        return self.before[-CHARACTERS_COUNTED:].rstrip().rpartition("\n")[2]

    @property
    def indented_by(self) -> str:
        """One step of indentation: a tab, or spaces; empty where the lines around do not agree."""
        return _indented_by(self.before[-CHARACTERS_READ:], self.after[:CHARACTERS_READ])

    @property
    def literal(self) -> Opened | None:
        """The string or comment that the cursor is in."""
        return opened_at_end(self.before, self.language)

    @property
    def open_brackets(self) -> int:
        """Brackets opened before the cursor that nothing on the cursor's line closes."""
        closed = _closed(self.masked(self.line_after))
        return max(0, _depth(self.before[-CHARACTERS_COUNTED:], self.language) - closed)

    @property
    def spare_brackets(self) -> int | None:
        """Brackets opened before the cursor that nothing behind it closes; None if not known."""
        if max(len(self.before), len(self.after)) > CHARACTERS_COUNTED:
            return None
        return max(
            0, _depth(self.before[-CHARACTERS_COUNTED:], self.language) - _closed_behind(self)
        )

    def masked(self, text: str) -> str:
        """``text``, read from the cursor on, with fillers in strings and comments."""
        return masked(text, self.language, self.literal)


def has_windows_line_ends(before: str, after: str) -> bool:
    """Whether the line end nearest to the cursor is CRLF: a file may have both kinds."""
    at = before.rfind("\n")
    if at >= 0:
        return before[at - 1 : at] == "\r"
    at = after.find("\n")
    return at > 0 and after[at - 1] == "\r"


def several_lines(around: Surroundings, knows_end: bool) -> bool:
    """Whether a completion here may have more than one line.

    Args:
        knows_end: The model was taught where a middle ends, so that it can be trusted at the start
            of a line; otherwise only a block that was just opened is filled.
    """
    if around.line_after.strip() and not set(around.line_after.strip()) <= CLOSERS | set(";,:"):
        return False
    if around.has_body_below:
        return False
    if around.line_before.strip():
        return around.opens_block and not around.line_after.strip()
    return knows_end or around.opens_block


def indentation_of(line: str) -> int:
    """Columns of white space at the start of a line; a tab is one."""
    return len(line) - len(line.lstrip(" \t"))


def balance(code: str) -> int:
    """How many more brackets are opened than closed."""
    return sum(map(step, code))


def step(letter: str) -> int:
    """What a letter adds to the depth."""
    return 1 if letter in OPENERS else -1 if letter in CLOSERS else 0


@functools.lru_cache(maxsize=16)
def _depth(before: str, language: str | None) -> int:
    """Brackets that are open at the end of a text; a closing one too many opens nothing."""
    depth = 0
    for letter in masked(before, language):
        depth = max(0, depth + step(letter))
    return depth


@functools.lru_cache(maxsize=16)
def _closed_behind(around: Surroundings) -> int:
    return _closed(around.masked(around.after))


def _closed(code: str) -> int:
    """Brackets that a text closes and does not open."""
    depth = lowest = 0
    for letter in code:
        depth += step(letter)
        lowest = min(lowest, depth)
    return -lowest


@functools.lru_cache(maxsize=16)
def _indented_by(above: str, below: str) -> str:
    """What one step of indentation is, by the lines around; empty where they do not agree."""
    lines = [*above.split("\n")[1:-1], *below.split("\n")[1:-1]]
    leads = {line[: indentation_of(line)] for line in lines if line.strip()} - {"", " "}
    if leads and all(lead.strip("\t") == "" for lead in leads):
        return "\t"
    if leads and all(lead.strip(" ") == "" for lead in leads):
        return " " * min(map(len, leads))
    return ""
