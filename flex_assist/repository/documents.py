"""What mining says of a file, and what it keeps of it."""

from dataclasses import dataclass
from typing import Literal

Value = str | float | int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileVerdict:
    """What became of one file and why.

    Attributes:
        path: Relative to the root, with ``/``; bytes that are not UTF-8 as lone surrogates.
        rule: The rule that decided; ``kept`` or ``split`` for files that are used.
        value: What the rule measured. Never any text of a secret.
        language: By name or ``#!`` line, where mining came to know it.
    """

    path: str
    verdict: Literal["train", "held-out", "skip"]
    rule: str
    value: Value = None
    language: str | None = None


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Objection:
    """Why a rule leaves a file out."""

    rule: str
    value: Value = None
