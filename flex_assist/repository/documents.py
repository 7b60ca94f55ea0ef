"""What mining says of a file, and what it keeps of it."""

from dataclasses import dataclass
from typing import Literal

Value = str | float | int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileVerdict:
    """What became of one file and why.

    Attributes:
        path: Relative to the root, with ``/``; bytes that are not UTF-8 as lone surrogates.
        rule: The rule that decided. Of files that are used ``kept``, or what they are held out
            for: ``test``, ``recent`` (for testing, too), ``tune``.
        value: What the rule measured. Never any text of a secret. Of files that are used, how many
            spans were masked, where any were.
        language: By name or ``#!`` line, where mining came to know it.
        licence: The one that the file names, an SPDX expression.
    """

    path: str
    verdict: Literal["train", "held-out", "skip"]
    rule: str
    value: Value = None
    language: str | None = None
    licence: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A source file that passed every rule.

    Attributes:
        text: Without byte order mark, lines ended by ``\\n``.
        sha256: Of ``text`` in UTF-8, as hex.
        cluster: Documents of one number are near-duplicates of each other.
    """

    path: str
    language: str
    text: str
    sha256: str
    is_test: bool
    cluster: int


def printable_path(path: str) -> str:
    """A path for JSON and for people: bytes that are not UTF-8 as ``\\xNN``."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


@dataclass(frozen=True, slots=True, kw_only=True)
class Objection:
    """Why a rule leaves a file out."""

    rule: str
    value: Value = None
