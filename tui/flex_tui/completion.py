"""What is being typed at the cursor: a file, a command, or a command's argument."""

import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal["file", "command", "adapter", "theme"]

_FILE = re.compile(r'(?<![\w@./\\-])@([^\s"`@:]*)$')
_QUOTED_FILE = re.compile(r'(?<![\w@./\\-])@"([^"\n]*)$')
_COMMAND = re.compile(r"^/([a-z]*)$")
_ARGUMENT = re.compile(r"^/(adapter|theme)[ \t]+(\S*)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Typed:
    """Something that can be completed.

    Attributes:
        length: Characters before the cursor that a suggestion replaces.
    """

    kind: Kind
    text: str
    length: int


def typed_at(before: str) -> Typed | None:
    """What can be completed at the end of ``before``, the text up to the cursor."""
    if found := _COMMAND.match(before):
        return Typed(kind="command", text=found[1], length=len(before))
    if found := _ARGUMENT.match(before):
        kind: Kind = "adapter" if found[1] == "adapter" else "theme"
        return Typed(kind=kind, text=found[2], length=len(found[2]))
    if found := _QUOTED_FILE.search(before) or _FILE.search(before):
        return Typed(kind="file", text=found[1], length=len(before) - found.start())
    return None


def file_reference(path: str) -> str:
    """``path`` as it is written in a message."""
    plain = not re.search(r'[\s`@:"]', path) and path.rstrip(".,;:!?)]}>'") == path
    return f"@{path}" if plain else f'@"{path}"'


def choices(typed: str, names: list[str]) -> list[str]:
    """The names that ``typed`` may become: beginnings first, then what holds it."""
    begins = [name for name in names if name.startswith(typed)]
    return begins + [name for name in names if typed in name and name not in begins]
