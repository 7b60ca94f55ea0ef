"""Slash commands: what they are called, and what a line that begins with ``/`` means."""

import re
from dataclasses import dataclass

_COMMAND_LINE = re.compile(r"^/([a-z]+)(?:[ \t]+(.*))?$", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A slash command.

    Attributes:
        argument: What follows the name, for people; empty if nothing does.
        optional: The argument may be left out.
    """

    name: str
    help: str
    argument: str = ""
    optional: bool = False

    @property
    def usage(self) -> str:
        """E.g. ``/export FILE``."""
        argument = f"[{self.argument}]" if self.optional else self.argument
        return f"/{self.name} {argument}".rstrip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """A command as it was typed."""

    name: str
    argument: str


COMMANDS: tuple[Command, ...] = (
    Command(name="new", help="begin another conversation"),
    Command(
        name="adapter", argument="NAME|auto|none", help="who answers; auto: by the attached file"
    ),
    Command(name="history", argument="WORDS", optional=True, help="earlier conversations"),
    Command(name="export", argument="FILE", help="write the conversation as Markdown"),
    Command(name="copy", argument="code", optional=True, help="copy the last answer, or its code"),
    Command(name="theme", argument="NAME", help="change the colours"),
    Command(name="help", help="keys and commands"),
    Command(name="quit", help="leave"),
)
BY_NAME = {command.name: command for command in COMMANDS}


def parse(text: str) -> Invocation | None:
    """The command that a message is, known or not; None if it is a question.

    ``/usr/bin/env fails`` is a question: a path has a second slash.
    """
    found = _COMMAND_LINE.match(text.strip())
    if not found:
        return None
    return Invocation(name=found[1], argument=(found[2] or "").strip())


def fault_of(invocation: Invocation) -> str | None:
    """What is wrong with it, for people; None if it can be carried out."""
    command = BY_NAME.get(invocation.name)
    if command is None:
        known = ", ".join(f"/{name}" for name in BY_NAME)
        return f"there is no command /{invocation.name}; there are {known}"
    if command.argument and not command.optional and not invocation.argument:
        return f"/{command.name} needs more: {command.usage}"
    if invocation.argument and not command.argument:
        return f"/{command.name} takes nothing more"
    return None
