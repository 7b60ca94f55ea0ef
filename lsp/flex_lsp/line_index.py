"""Positions and offsets in a text.

A line ends with ``\\n``, ``\\r\\n`` or ``\\r`` and with nothing else: Python's ``splitlines`` would
also break at a form feed or at U+2028, and shift every later position.

Source: Language Server Protocol 3.17, "Text Documents" and "Position".
"""

import re
from bisect import bisect_right
from collections.abc import Sequence
from enum import StrEnum
from itertools import accumulate

_LINE_END = re.compile(r"\r\n|\r|\n")


class Encoding(StrEnum):
    """The unit that a position counts characters in, as agreed with the editor."""

    UTF8 = "utf-8"
    UTF16 = "utf-16"
    UTF32 = "utf-32"


def line_starts(text: str) -> list[int]:
    """The offset at which each line begins; there is always a first line."""
    if "\r" in text:
        return [0, *(end.end() for end in _LINE_END.finditer(text))]
    lengths = [len(line) + 1 for line in text.split("\n")]
    return [0, *accumulate(lengths[:-1])]


def next_line(text: str, start: int) -> int | None:
    """Where the line after the one that begins at ``start`` begins; None after the last one."""
    end = _LINE_END.search(text, start)
    return end.end() if end is not None else None


def offset_at(
    text: str, starts: Sequence[int], line: int, character: int, encoding: Encoding
) -> int:
    """The offset into ``text`` (in code points) of a position.

    A position outside the text is moved to the nearest place in it: past the end of a line to the
    end of that line, below the last line to the end of the text, inside of a character to its
    beginning.
    """
    if line < 0:
        return 0
    if line >= len(starts):
        return len(text)
    start = starts[line]
    content = text[start : _content_end(text, starts, line)]
    return start + _code_points(content, max(character, 0), encoding)


def position_at(
    text: str, starts: Sequence[int], offset: int, encoding: Encoding
) -> tuple[int, int]:
    """Line and character of an offset; an offset outside the text is moved to its nearest end."""
    offset = min(max(offset, 0), len(text))
    line = bisect_right(starts, offset) - 1
    within = text[starts[line] : min(offset, _content_end(text, starts, line))]
    return line, units(within, encoding)


def units(text: str, encoding: Encoding) -> int:
    """How many units of ``encoding`` a text has."""
    if encoding is Encoding.UTF32 or text.isascii():
        return len(text)
    if encoding is Encoding.UTF8:
        return len(text.encode("utf-8", "surrogatepass"))
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _content_end(text: str, starts: Sequence[int], line: int) -> int:
    if line + 1 >= len(starts):
        return len(text)
    end = starts[line + 1] - 1
    return end - 1 if end > starts[line] and text[end - 1 : end + 1] == "\r\n" else end


def _code_points(content: str, character: int, encoding: Encoding) -> int:
    if encoding is Encoding.UTF32 or content.isascii():
        return min(character, len(content))
    if encoding is Encoding.UTF8:
        data = content.encode("utf-8", "surrogatepass")[:character]
        return len(data.decode("utf-8", "ignore"))
    data = content.encode("utf-16-le", "surrogatepass")[: 2 * character]
    return len(data.decode("utf-16-le", "ignore"))
