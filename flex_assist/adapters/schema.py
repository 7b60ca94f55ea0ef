"""JSON files that older and newer versions of the product read.

A file carries two numbers: ``schema``, of the form it was written in, and ``readable_from``, the
least schema whose readers can still use it; they ignore what they do not know. So a version that
only adds keys counts ``schema`` up, and one that changes the meaning of a key both. Older files are
brought to the newest form by one step after the other.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from flex_assist.errors import DataError

SCHEMA, READABLE_FROM = "schema", "readable_from"
Record = dict[str, Any]
# From the schema of that number to the next one.
Steps = Mapping[int, Callable[[Record], Record]]


class TooNewError(DataError):
    """A file is whole, but only a newer version of the product understands it."""


def read_json(path: Path, schema: int, steps: Steps | None = None) -> Record:
    """The record in a file, in the form of ``schema``.

    Args:
        schema: The number that the reader knows.
        steps: One for each older schema that there has been.

    Raises:
        TooNewError: It needs a reader of a later schema.
        OSError: It cannot be read.
        ValueError, TypeError, KeyError, RecursionError: It is damaged.
    """
    record = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(record, dict):
        raise TypeError(f"it holds a {type(record).__name__}")
    return upgraded(record, schema, steps or {}, path)


def upgraded(record: Record, schema: int, steps: Steps, path: Path) -> Record:
    """``record`` of any schema in the form of ``schema``; raises as ``read_json`` does."""
    found = _number(record, SCHEMA)
    needed = _number(record, READABLE_FROM) if READABLE_FROM in record else found
    if found > schema:
        if needed > schema:
            raise TooNewError(
                f"{path} was written by a newer version (schema {found}, readable from schema "
                f"{needed} on; this version knows {schema}); update flex-assist. Nothing was "
                "changed"
            )
        return record
    while found < schema:
        record = {**steps[found](record), SCHEMA: found + 1, READABLE_FROM: found + 1}
        found += 1
    return record


def _number(record: Record, key: str) -> int:
    value = record[key]
    if type(value) is not int or value < 1:
        raise TypeError(f"{key!r} is {value!r}")
    return value
