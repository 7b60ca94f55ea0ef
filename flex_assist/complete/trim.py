"""What of the model's text is shown.

A filter takes the text and the cursor's surroundings and gives text that is no longer. What each
one did is noted, so that a completion can be explained.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

OPENERS = {"(": ")", "[": "]", "{": "}"}
CLOSERS = frozenset(OPENERS.values())
BLOCK_OPENING = re.compile(r"([:{(\[]|=>|->|\bdo|\bthen|\belse)\s*$")
# A run of more equal lines than this is a loop of the model, not code.
MOST_EQUAL_LINES = 3
# Lines up to this long (``}``, ``fi``, ``end``) stand everywhere: alone they show no repetition.
SHORT_LINE = 4
# How far back brackets are counted; what was opened earlier does not end on the cursor's line.
LINES_COUNTED = 40
# Strings on one line, whose brackets do not count.
STRING = re.compile(r"\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'")
OPENING_WORD = re.compile(r"\b(do|then|else)\s*$")
CLOSING_WORD = re.compile(r"\s*(end|fi|done)\b")
QUOTES = frozenset("\"'`")
# A carriage return too many is one that the model made up.
LINE_END = re.compile(r"\r+\n")
# What tells that a text of several lines came to an end of its own.
CLOSED = "cut where the bracket closes"
DEDENTED = "cut at the end of the block"
REACHED = "cut at the text below"


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
        return bool(BLOCK_OPENING.search(self.last_line))

    @property
    def has_body_below(self) -> bool:
        """True where the next line is indented deeper: the body of the cursor's line is there."""
        below = self.after.partition("\n")[2].partition("\n")[0]
        return bool(self.line_before and below.strip() and _indentation(below) > self.indentation)

    @property
    def last_line(self) -> str:
        """The last line before the cursor that says something."""
        return next((line for line in reversed(self.before.split("\n")) if line.strip()), "")

    @property
    def open_brackets(self) -> int:
        """Brackets opened before the cursor that nothing on the cursor's line closes."""
        depth = 0
        for letter in _without_strings("\n".join(self.before.split("\n")[-LINES_COUNTED:])):
            depth = max(0, depth + _step(letter))
        return max(0, depth - max(0, -_open_brackets(self.line_after)))


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


def finished_early(text: str, around: Surroundings, several: bool) -> bool:
    """True once nothing that may still come could be shown: the engine can stop."""
    if not several:
        return "\n" in text
    # A line that may still grow is not yet equal to another.
    whole = text.rpartition("\n")[0]
    cuts = (cut_at_closed_bracket(text, around), cut_at_dedent(text, around))
    return any(note for _, note in (*cuts, cut_loops(whole, around)))


Filter = Callable[[str, Surroundings], tuple[str, str]]


def cut_to_line(text: str, around: Surroundings) -> tuple[str, str]:
    """Keep the first line."""
    line, found, _ = text.partition("\n")
    return line, "cut to one line" if found else ""


def cut_to_statement(text: str, around: Surroundings) -> tuple[str, str]:
    """Keep the first statement, with its block; if it does not end, only its first line."""
    lines = text.split("\n")
    if len(lines) == 1:
        return text, ""
    limit = around.indentation if around.line_before else _indentation(lines[0])
    for at, line in enumerate(lines[1:], start=1):
        ended = line.strip() and _indentation(line) <= limit and not CLOSING_WORD.match(line)
        if ended and _open_brackets("\n".join(lines[:at])) <= 0 and line.strip()[0] not in CLOSERS:
            return "\n".join(lines[:at]).rstrip(), "cut to one statement"
    return lines[0].rstrip(), "cut to one line"


def cut_at_dedent(text: str, around: Surroundings) -> tuple[str, str]:
    """End where the text leaves the block in which the cursor is."""
    lines = text.split("\n")
    limit = around.indentation
    if not around.line_before:
        # The text brings the indentation itself.
        limit = _indentation(next((line for line in lines if line.strip()), ""))
    elif around.line_before.strip() and around.opens_block:
        limit += 1
    for at, line in enumerate(lines[1:], start=1):
        if line.strip() and _leaves(line, lines[:at], limit, around):
            return "\n".join(lines[:at]).rstrip(), DEDENTED
    return text, ""


def cut_at_closed_bracket(text: str, around: Surroundings) -> tuple[str, str]:
    """End with the line that closes the bracket right before the cursor."""
    if not around.line_before.rstrip().endswith(tuple(OPENERS)):
        return text, ""
    lines, depth = text.split("\n"), 1
    for at, line in enumerate(lines[:-1], start=1):
        depth += _open_brackets(line)
        if depth <= 0:
            return "\n".join(lines[:at]), CLOSED
    return text, ""


def _leaves(line: str, earlier: list[str], limit: int, around: Surroundings) -> bool:
    if _indentation(line) >= limit:
        return False
    # What closes the block that was just opened still belongs to the text.
    if CLOSING_WORD.match(line):
        closed = any(CLOSING_WORD.match(one) and _indentation(one) < limit for one in earlier)
        return closed or not OPENING_WORD.search(around.last_line)
    opened = around.last_line.rstrip().endswith(tuple(OPENERS))
    balance = _open_brackets("\n".join(earlier)) + (1 if opened else 0)
    return not (line.strip()[0] in CLOSERS and balance > 0)


def cut_loops(text: str, around: Surroundings) -> tuple[str, str]:
    """End before the model repeats itself: the same line, indentation and all, over and over."""
    lines = text.split("\n")
    whole = [(around.line_before + lines[0]).rstrip(), *(line.rstrip() for line in lines[1:])]
    for at in range(MOST_EQUAL_LINES, len(lines)):
        block = set(whole[at - MOST_EQUAL_LINES : at + 1])
        if len(block) == 1 and block != {""}:
            return "\n".join(lines[: at - MOST_EQUAL_LINES + 1]), "cut at a repetition"
    return text, ""


def cut_at_following_lines(text: str, around: Surroundings) -> tuple[str, str]:
    """End where the text says what already stands below the cursor."""
    below = next((line for line in around.after.split("\n")[1:40] if line.strip()), "")
    if not below:
        return text, ""
    lines = text.rstrip().split("\n")
    for at, line in enumerate(lines):
        # The rest of a line that was begun is no line of its own.
        if at == 0 and around.line_before.strip():
            continue
        own = around.line_before + line if at == 0 else line
        if _says_the_same(own, below, lines[at + 1 :]):
            return "\n".join(lines[:at]).rstrip(), REACHED
    return text, ""


def _says_the_same(line: str, below: str, rest: Sequence[str]) -> bool:
    if len(below.strip()) > SHORT_LINE:
        return line.strip() == below.strip()
    # A short line must be at the same indentation, with nothing else behind it: many blocks end in
    # a bracket.
    return all(one.rstrip() in ("", below.rstrip()) for one in (line, *rest)) and bool(line.strip())


def drop_line_suffix(text: str, around: Surroundings) -> tuple[str, str]:
    """Drop from the end what stands right of the cursor, and what would close it twice."""
    tail = around.line_after.strip()
    if not tail:
        return text, ""
    kept = text.rstrip()
    brackets_only = set(tail) <= CLOSERS
    if not brackets_only and (len(tail) > 1 or not tail.isalnum()):
        while kept.endswith(tail):
            kept = kept.removesuffix(tail).rstrip()
    if tail[0] in QUOTES and _without_strings(around.line_before).count(tail[0]) % 2:
        # The cursor is in a string, and its end stands already there.
        kept = re.split(rf"(?<!\\){tail[0]}", kept, maxsplit=1)[0]
    if tail[0] in CLOSERS:
        kept = _up_to_surplus(kept, around.open_brackets, tail[0])
    if len(kept) == len(text.rstrip()):
        return text, ""
    return kept, "dropped what stands right of the cursor"


def _up_to_surplus(text: str, spare: int, closer: str) -> str:
    """End before the bracket that closes more than the text and ``spare`` others opened."""
    depth = spare
    for at, letter in enumerate(_without_strings(text)):
        depth += _step(letter)
        if depth < 0:
            return text[:at] if letter == closer else text
    return text


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
    blocks: list[Filter] = [cut_at_closed_bracket, cut_at_dedent, cut_loops]
    filters = blocks if several else [cut_to_line]
    filters += [cut_at_following_lines, drop_line_suffix, drop_trailing_space]
    text, notes = LINE_END.sub("\n", text), dict[str, None]()
    if several and ended_by == "length":
        text, note = drop_unfinished_line(text, around)
        notes[note] = None
    text = _filtered(text, around, filters, notes)
    endless = ended_by == "length" and notes.keys().isdisjoint((CLOSED, DEDENTED, REACHED))
    if several and endless and not around.opens_block:
        # Nothing told where it ends.
        text, note = cut_to_statement(text, around)
        notes[note] = None
        text = _filtered(text, around, filters, notes)
    return text, tuple(note for note in notes if note)


def _filtered(
    text: str, around: Surroundings, filters: Sequence[Filter], notes: dict[str, None]
) -> str:
    """Apply filters until they change nothing: what one leaves may be a case for an earlier one."""
    size = len(text) + 1
    while len(text) < size:
        size = len(text)
        for each in filters:
            text, note = each(text, around)
            notes[note] = None
    return text


def _indentation(line: str) -> int:
    return len(line) - len(line.lstrip(" \t"))


def _open_brackets(text: str) -> int:
    return sum(_step(letter) for letter in _without_strings(text))


def _step(letter: str) -> int:
    return 1 if letter in OPENERS else -1 if letter in CLOSERS else 0


def _without_strings(text: str) -> str:
    """The same length, with nothing but fillers in strings."""
    return STRING.sub(lambda found: "_" * len(found[0]), text)
