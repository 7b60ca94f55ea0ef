"""One setting: a dataclass field that says what it means and which values it takes."""

import dataclasses
import math
import types
from collections.abc import Mapping
from typing import Any, Union, get_args, get_origin


def setting(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] | None = None,
    repository: bool = False,
) -> Any:
    """A field of a settings section, with what people and checks need to know of it."""
    metadata = {
        "help": help,
        "low": low,
        "high": high,
        "choices": choices,
        "repository": repository,
    }
    return dataclasses.field(default=default, metadata=metadata)


def check(value: Any, kind: Any, metadata: Mapping[str, Any], texts: bool) -> Any:
    """``value`` as the setting's type; ``texts``: it comes as a text, from the environment.

    Raises:
        TypeError, ValueError, OverflowError: It is not of that type, or out of range.
    """
    value = _from_text(value, kind) if texts else _convert(value, kind)
    low, high, choices = metadata["low"], metadata["high"], metadata["choices"]
    if low is not None and value < low:
        raise ValueError(f"must be at least {low:g}")
    if high is not None and value > high:
        raise ValueError(f"must be at most {high:g}")
    if choices is not None and value not in choices:
        raise ValueError(f"must be one of {', '.join(choices)}")
    return value


def _from_text(text: str, kind: Any) -> Any:
    if kind is bool:
        words = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
        if text.lower() not in words:
            raise ValueError("must be true or false")
        return words[text.lower()]
    if get_origin(kind) is tuple:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    return _convert(kind(text) if kind in (int, float) else text, kind)


def _convert(value: Any, kind: Any) -> Any:
    if get_origin(kind) in (Union, types.UnionType):
        kind = next(part for part in get_args(kind) if part is not type(None))
    if get_origin(kind) is tuple:
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            raise TypeError("must be a list of texts")
        return tuple(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        raise TypeError(f"must be a {kind.__name__}")
    if kind is float and not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value
