"""What commands print: results to standard output, everything else to standard error."""

import json
import math
import sys
from collections.abc import Sequence
from typing import Any

JSON_HELP = "print one JSON object to standard output"


def print_json(value: Any) -> None:
    """One JSON object. Text that is not Unicode comes out escaped."""
    print(json.dumps(_finite(value), indent=2, ensure_ascii=True, default=str, allow_nan=False))


def _finite(value: Any) -> Any:
    """``value`` with null for what JSON has no number for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return value


def print_table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A plain table, columns aligned; nothing but the headings where there are no rows."""
    texts = [[printable(str(cell)) for cell in row] for row in (headings, *rows)]
    widths = [max(len(row[column]) for row in texts) for column in range(len(headings))]
    for row in texts:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


def say(text: str) -> None:
    """A line for people, to standard error."""
    print(printable(text), file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """``text`` with control characters escaped: a repository must not steer the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)
