"""What of the model's text is shown.

A filter takes the text and the cursor's surroundings and gives text that is no longer. What each
one did is noted, so that a completion can be explained.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

OPENERS = {"(": ")", "[": "]", "{": "}"}
CLOSERS = frozenset(OPENERS.values())
BLOCK_OPENING = re.compile(r"([:{(\[]|=>|->|\bdo|\bthen|\belse)\s*$")
# A run of this many equal lines is a loop of the model, not code.
MOST_EQUAL_LINES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """The text around the cursor, in LF line ends."""

    before: str
    after: str

    @property
    def line_before(self) -> str:
        """The cursor's line up to the cursor."""
        return self.before.rpartition("\n")[2]

    @property
    def line_after(self) -> str:
        """The cursor's line from the cursor on."""
        return self.after.partition("\n")[0]

    @property
    def indentation(self) -> int:
        """Columns of white space at the start of the cursor's line."""
        return _indentation(self.line_before) if self.line_before else 0

    @property
    def opens_block(self) -> bool:
        """True right after something whose body goes on the following lines."""
        line = self.line_before if self.line_before.strip() else self._previous_line
        return bool(BLOCK_OPENING.search(line))

    @property
    def _previous_line(self) -> str:
        return next((line for line in reversed(self.before.split("\n")) if line.strip()), "")


def several_lines(around: Surroundings, knows_end: bool) -> bool:
    """Whether a completion here may have more than one line.

    Args:
        knows_end: The model was taught where a middle ends, so that it can be trusted at the start
            of a line; otherwise only a block that was just opened is filled.
    """
    if around.line_after.strip() and not set(around.line_after.strip()) <= CLOSERS | set(";,:"):
        return False
    if around.line_before.strip():
        return around.opens_block and not around.line_after.strip()
    return knows_end or around.opens_block


def finished_early(text: str, around: Surroundings, several: bool) -> bool:
    """True once nothing that may still come could be shown: the engine can stop."""
    if not several:
        return "\n" in text
    shown, _ = cut_at_dedent(text, around)
    return len(shown) < len(text) or cut_loops(text, around)[1] != ""


Filter = Callable[[str, Surroundings], tuple[str, str]]


def cut_to_line(text: str, around: Surroundings) -> tuple[str, str]:
    """Keep the first line."""
    line, found, _ = text.partition("\n")
    return line, "cut to one line" if found else ""


def cut_at_dedent(text: str, around: Surroundings) -> tuple[str, str]:
    """End where the text leaves the block in which the cursor is."""
    lines = text.split("\n")
    for at, line in enumerate(lines[1:], start=1):
        if line.strip() and at < len(lines) and _leaves(line, lines[:at], around):
            return "\n".join(lines[:at]).rstrip(), "cut at the end of the block"
    return text, ""


def _leaves(line: str, earlier: list[str], around: Surroundings) -> bool:
    limit = around.indentation
    if around.line_before.strip() and around.opens_block:
        limit += 1
    if _indentation(line) >= limit:
        return False
    # The bracket that closes what was opened still belongs to the text.
    balance = _open_brackets("\n".join(earlier)) + (1 if around.opens_block else 0)
    return not (line.strip()[0] in CLOSERS and balance > 0)


def cut_loops(text: str, around: Surroundings) -> tuple[str, str]:
    """End before the model repeats itself."""
    lines = text.split("\n")
    for at in range(MOST_EQUAL_LINES, len(lines)):
        block = {line.strip() for line in lines[at - MOST_EQUAL_LINES : at + 1]}
        if len(block) == 1 and block != {""}:
            return "\n".join(lines[: at - MOST_EQUAL_LINES + 1]), "cut at a repetition"
    return text, ""


def cut_at_following_lines(text: str, around: Surroundings) -> tuple[str, str]:
    """End where the text says what already stands below the cursor."""
    below = [line.strip() for line in around.after.split("\n")[1:40] if line.strip()]
    if not below:
        return text, ""
    lines = text.split("\n")
    for at, line in enumerate(lines[1:], start=1):
        if line.strip() == below[0] and (len(line.strip()) > 3 or at == len(lines) - 1):
            return "\n".join(lines[:at]).rstrip(), "cut at the text below"
    return text, ""


def drop_line_suffix(text: str, around: Surroundings) -> tuple[str, str]:
    """Drop from the end what stands right of the cursor: brackets above all."""
    tail = around.line_after.strip()
    if not tail or not text.strip():
        return text, ""
    first, found, rest = text.partition("\n")
    for length in range(len(tail), 0, -1):
        if first.rstrip().endswith(tail[:length]) and _doubles(first.rstrip(), tail, length):
            kept = first.rstrip()[: -length] + found + rest
            return kept, "dropped what stands right of the cursor"
    return text, ""


def _doubles(line: str, tail: str, length: int) -> bool:
    if length == len(tail) and length > 1:
        return True
    # A few characters are dropped only if they are brackets that the line does not need.
    return set(tail[:length]) <= CLOSERS and _open_brackets(line) < 0


def drop_unfinished_line(text: str, around: Surroundings) -> tuple[str, str]:
    """Drop a last line that the limit of tokens cut off."""
    whole, found, _ = text.rpartition("\n")
    return (whole, "dropped an unfinished line") if found and whole.strip() else (text, "")


def drop_trailing_space(text: str, around: Surroundings) -> tuple[str, str]:
    """No white space at the end, and nothing at all of white space only."""
    stripped = text.rstrip()
    return (stripped, "dropped white space") if stripped != text else (text, "")


def trim(
    text: str, around: Surroundings, *, several: bool, ended_by: str
) -> tuple[str, tuple[str, ...]]:
    """Apply all filters in their order.

    Args:
        ended_by: Why generation ended, as ``protocol.Finished.reason``.

    Returns:
        What is shown, and the notes of the filters that did something.
    """
    filters: list[Filter] = [cut_at_dedent, cut_loops, cut_at_following_lines]
    if not several:
        filters = [cut_to_line]
    elif ended_by == "length":
        filters.insert(0, drop_unfinished_line)
    notes = []
    for each in [*filters, drop_line_suffix, drop_trailing_space]:
        text, note = each(text, around)
        if note:
            notes.append(note)
    return text, tuple(notes)


def _indentation(line: str) -> int:
    return len(line) - len(line.lstrip(" \t"))


def _open_brackets(text: str) -> int:
    return sum(text.count(opener) - text.count(closer) for opener, closer in OPENERS.items())
