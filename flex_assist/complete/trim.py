"""What of the model's text is shown.

A filter takes the text and the cursor's surroundings and gives text that is no longer. What each
one did is noted, so that a completion can be explained.
"""

import itertools
import re
from collections.abc import Callable, Sequence

from flex_assist.complete.surroundings import (
    CLOSERS,
    OPENERS,
    Surroundings,
    balance,
    indentation_of,
    step,
)
from flex_assist.complete.syntax import without_broken_end

# A run of more equal lines than this is a loop of the model, not code.
MOST_EQUAL_LINES = 3
# Lines up to this long (``}``, ``fi``, ``end``) stand everywhere: alone they show no repetition.
SHORT_LINE = 4
# A block of so many lines that comes so often is a loop, too.
MOST_BLOCK_LINES = 8
MOST_EQUAL_BLOCKS = 3
# A piece of a line that comes so often in a row is a loop, whatever numbers are in it.
MOST_EQUAL_PIECES = 5
PIECE_SIZES = range(4, 41)
PIECES = tuple(re.compile(rf"(.{{{size}}})\1{{{MOST_EQUAL_PIECES}}}") for size in PIECE_SIZES)
# Rules of dashes and runs of spaces are no loops.
TELLING_PIECE = re.compile(r"\w.*\w|[A-Za-z]")
# Where a round bracket may be closed that nobody opened: `case` in a shell.
UNBALANCED = frozenset({"shell"})
# What of the text right of the cursor says enough to be recognised in the middle of the answer.
TELLING_CHARACTERS = 4
CLOSING_WORD = re.compile(r"\s*(end|fi|done)\b")
# At a lower column, and yet of the block around them.
OUTDENTED = {
    **dict.fromkeys(
        ("c", "cpp", "csharp", "java", "javascript", "typescript", "tsx", "go", "php"),
        re.compile(
            r"\s*(?:case\b.*|default\s*|(?:public|private|protected|signals|slots)\b[\w\s]*)(?::|->)"
        ),
    ),
}
DIRECTIVE = re.compile(
    r"#\s*(?:if|ifdef|ifndef|elif|else|endif|define|undef|pragma|region|endregion)\b"
)
DIRECTED = frozenset({"c", "cpp", "csharp"})
# What may begin a string, a comment or a regular expression: more text can change what it is.
AMBIGUOUS = frozenset("\"'`/#<")
# The white space that a line starts with; the first line goes on from the cursor.
LEAD = re.compile(r"(?<=\n)[ \t]+")
SPACES_OF_A_TAB = 4
# A carriage return too many is one that the model made up.
LINE_END = re.compile(r"\r+\n")
# What tells that a text of several lines came to an end of its own.
CLOSED = "cut where the bracket closes"
DEDENTED = "cut at the end of the block"
REACHED = "cut at the text below"


def finished_early(text: str, around: Surroundings, several: bool) -> bool:
    """True once nothing that may still come could be shown: the engine can stop."""
    if ("\n" in text and not several) or _ends_in_pieces(text):
        return True
    if not several:
        return _closes_too_much(text, around)
    text, _ = fit_indentation(text, around)
    # A line that may still grow is not yet equal to another.
    whole = text.rpartition("\n")[0]
    cuts = (cut_at_closed_bracket(text, around), cut_at_dedent(text, around))
    return any(note for _, note in (*cuts, cut_loops(whole, around)))


def fit_indentation(text: str, around: Surroundings) -> tuple[str, str]:
    """Indent the lines as the file is indented: with tabs, or with spaces."""
    unit = around.indented_by
    if not unit or "\n" not in text:
        return text, ""
    other, own = (" " * SPACES_OF_A_TAB, unit) if unit == "\t" else ("\t", unit)
    fitted = LEAD.sub(lambda found: found[0].replace(other, own), text)
    return (fitted, "indented as the file is") if fitted != text else (text, "")


def _closes_too_much(text: str, around: Surroundings) -> bool:
    """Whether a line has closed what is closed right of the cursor, whatever may still come."""
    tail = around.line_after.strip()
    if not tail or tail[0] not in CLOSERS or not AMBIGUOUS.isdisjoint(text):
        return False
    return len(_up_to_surplus(text, around.open_brackets, around, tail[0])) < len(text)


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
    limit = around.indentation if around.line_before else indentation_of(lines[0])
    for at, line in enumerate(lines[1:], start=1):
        ended = line.strip() and indentation_of(line) <= limit and not CLOSING_WORD.match(line)
        open_brackets = balance(around.masked("\n".join(lines[:at])))
        if ended and open_brackets <= 0 and line.strip()[0] not in CLOSERS:
            return "\n".join(lines[:at]).rstrip(), "cut to one statement"
    return lines[0].rstrip(), "cut to one line"


def cut_at_dedent(text: str, around: Surroundings) -> tuple[str, str]:
    """End where the text leaves the block in which the cursor is."""
    lines = text.split("\n")
    limit = around.indentation
    if not around.line_before:
        # The text brings the indentation itself.
        limit = indentation_of(next((line for line in lines if line.strip()), ""))
    elif around.line_before.strip() and around.opens_block:
        limit += 1
    code = around.masked(text)
    begins = itertools.accumulate(len(line) + 1 for line in lines)
    for at, (line, begin) in enumerate(zip(lines[1:], begins, strict=False), start=1):
        # A line of a string or comment may stand anywhere.
        if not line.strip() or code[begin - 1] != "\n":
            continue
        if _leaves(line, lines[:at], balance(code[:begin]), limit, around):
            return "\n".join(lines[:at]).rstrip(), DEDENTED
    return text, ""


def cut_at_closed_bracket(text: str, around: Surroundings) -> tuple[str, str]:
    """End with the line that closes the bracket right before the cursor."""
    if not around.line_before.rstrip().endswith(tuple(OPENERS)):
        return text, ""
    code, depth = around.masked(text), 1
    for at, letter in enumerate(code):
        depth += step(letter)
        if letter == "\n" and depth <= 0:
            return text[:at], CLOSED
    return text, ""


def _leaves(line: str, earlier: list[str], depth: int, limit: int, around: Surroundings) -> bool:
    if indentation_of(line) >= limit:
        return False
    if around.language in DIRECTED and DIRECTIVE.match(line):
        return False
    outdented = OUTDENTED.get(around.language or "")
    opener = indentation_of(around.last_line)
    if outdented and outdented.match(line) and indentation_of(line) >= min(opener, limit - 1):
        return False
    # What closes the block that was just opened still belongs to the text.
    if CLOSING_WORD.match(line):
        closed = any(CLOSING_WORD.match(one) and indentation_of(one) < limit for one in earlier)
        return closed or not around.opens_with_word
    opened = around.last_line.rstrip().endswith(tuple(OPENERS))
    return not (line.strip()[0] in CLOSERS and depth + (1 if opened else 0) > 0)


def cut_loops(text: str, around: Surroundings) -> tuple[str, str]:
    """End before the model repeats itself: the same line, indentation and all, over and over."""
    lines = text.split("\n")
    whole = [(around.line_before + lines[0]).rstrip(), *(line.rstrip() for line in lines[1:])]
    for end in range(1, len(lines) + 1):
        for size in range(1, MOST_BLOCK_LINES + 1):
            times = MOST_EQUAL_LINES + 1 if size == 1 else MOST_EQUAL_BLOCKS
            first = end - size * times
            if first < 0:
                break
            block = whole[first : first + size]
            if any(block) and block * times == whole[first:end]:
                return "\n".join(lines[: first + size]), "cut at a repetition"
    return text, ""


def cut_line_loops(text: str, around: Surroundings) -> tuple[str, str]:
    """End behind the first of equal pieces of a line: ``a[0] + a[1] + a[2] + ...``."""
    plain = re.sub(r"\d", "0", text)
    found = [
        match
        for pattern in PIECES
        for match in pattern.finditer(plain)
        if TELLING_PIECE.search(match[1])
    ]
    if not found:
        return text, ""
    # The one that is whole first: more text must not change it.
    first = min(found, key=lambda match: (match.end(), match.start()))
    return text[: first.end(1)].rstrip(" \t,;+&|.-*/="), "cut at a repetition"


def _ends_in_pieces(text: str) -> bool:
    """Whether ``cut_line_loops`` finds something that ends with the text. Quick."""
    tail = re.sub(
        r"\d", "0", text[-PIECE_SIZES[-1] * (MOST_EQUAL_PIECES + 1) :].rpartition("\n")[2]
    )
    return any(
        len(tail) >= size * (MOST_EQUAL_PIECES + 1)
        and tail.endswith(tail[-size:] * (MOST_EQUAL_PIECES + 1))
        and TELLING_PIECE.search(tail[-size:])
        for size in PIECE_SIZES
    )


def cut_at_following_lines(text: str, around: Surroundings) -> tuple[str, str]:
    """End where the text says what already stands below the cursor."""
    below = next((line for line in around.lines_below if line.strip()), "")
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
    kept = len(lines) - _overlap(lines, around)
    return ("\n".join(lines[:kept]).rstrip(), REACHED) if kept < len(lines) else (text, "")


def _overlap(lines: Sequence[str], around: Surroundings) -> int:
    """How many lines at the end are those that stand below, each at its column."""
    below = [line.rstrip() for line in around.lines_below if line.strip()]
    first = 1 if around.line_before.strip() else 0
    for at in range(first, len(lines)):
        own = around.line_before + lines[at] if at == 0 else lines[at]
        said = [line.rstrip() for line in (own, *lines[at + 1 :]) if line.strip()]
        if lines[at].strip() and said == below[: len(said)] and len("".join(said)) > SHORT_LINE:
            return len(lines) - at
    return 0


def _says_the_same(line: str, below: str, rest: Sequence[str]) -> bool:
    if len(below.strip()) > SHORT_LINE:
        return line.strip() == below.strip()
    # A short line must be at the same indentation, with nothing else behind it: many blocks end in
    # a bracket.
    return all(one.rstrip() in ("", below.rstrip()) for one in (line, *rest)) and bool(line.strip())


def drop_line_suffix(text: str, around: Surroundings) -> tuple[str, str]:
    """Drop what stands right of the cursor, and what would close it twice."""
    tail = around.line_after.strip()
    if not tail:
        return text, ""
    kept = text.rstrip()
    if len(tail) >= TELLING_CHARACTERS and (at := kept.find(tail)) >= 0:
        kept = kept[:at].rstrip()
    if not set(tail) <= CLOSERS and (len(tail) > 1 or not tail.isalnum()):
        while kept.endswith(tail):
            kept = kept.removesuffix(tail).rstrip()
    kept = _up_to_tail(kept, tail)
    literal = around.literal
    closed = around.line_after.startswith if around.language == "shell" else tail.__contains__
    if literal is not None and literal.closing and closed(literal.closing):
        # The cursor is in a string, and its end stands already there.
        kept = re.split(rf"(?<!\\){re.escape(literal.closing)}", kept, maxsplit=1)[0]
    if tail[0] in CLOSERS:
        kept = _up_to_surplus(kept, around.open_brackets, around, tail[0])
    if len(kept) == len(text.rstrip()):
        return text, ""
    return kept, "dropped what stands right of the cursor"


def _up_to_tail(text: str, tail: str) -> str:
    """Without an end that is the beginning of what stands right of the cursor."""
    if "\n" in text:
        return text
    for size in range(min(len(text), len(tail)), TELLING_CHARACTERS - 1, -1):
        if text.endswith(tail[:size]):
            return text[:-size].rstrip()
    return text


def drop_surplus_closers(text: str, around: Surroundings) -> tuple[str, str]:
    """End before a bracket that closes what the text below closes, or what nobody opened."""
    spare = around.spare_brackets
    if spare is None or around.language in UNBALANCED:
        return text, ""
    cut, depth = len(text), spare
    for at, letter in enumerate(around.masked(text)):
        depth += step(letter)
        if depth >= 0:
            # What was closed is opened again: a condition's end, and its body, which stands below.
            cut = len(text)
        elif cut == len(text):
            cut = at
    return (text[:cut], "dropped a bracket too many") if cut < len(text) else (text, "")


def _up_to_surplus(text: str, spare: int, around: Surroundings, closer: str) -> str:
    """End before a ``closer`` that closes more than the text and ``spare`` others opened."""
    depth = spare
    for at, letter in enumerate(around.masked(text)):
        depth += step(letter)
        if depth < 0:
            return text[:at] if letter == closer else text
    return text


def drop_broken_end(text: str, around: Surroundings) -> tuple[str, str]:
    """Drop last lines with which the text around does not parse any more."""
    if around.literal is not None:
        return text, ""
    kept = without_broken_end(around.before, text, around.after, around.language)
    return (kept, "dropped lines that do not parse") if kept != text else (text, "")


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
    filters = [*(blocks if several else [cut_to_line]), cut_line_loops]
    filters += [cut_at_following_lines, drop_line_suffix, drop_surplus_closers]
    filters += [drop_trailing_space, *([drop_broken_end] if several else [])]
    text, notes = LINE_END.sub("\n", text), dict[str, None]()
    text, note = fit_indentation(text, around)
    notes[note] = None
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
