"""What is offered for what is being typed."""

from collections.abc import Sequence

from flex_assist.chat.service import ChatService
from flex_assist.errors import FlexAssistError
from flex_tui.commands import COMMANDS
from flex_tui.completion import choices, file_reference, typed_at

Choice = tuple[str, str]


def suggest(before: str, service: ChatService, themes: Sequence[str]) -> tuple[Choice, ...]:
    """Choices for the end of ``before``: what is inserted, and a note. May list the repository."""
    typed = typed_at(before)
    if typed is None:
        return ()
    if typed.kind == "command":
        return _commands(typed.text)
    if typed.kind == "adapter":
        return tuple(
            (name, "") for name in choices(typed.text, ["auto", "none", *service.adapters()])
        )
    if typed.kind == "theme":
        return tuple((name, "") for name in choices(typed.text, list(themes)))
    try:
        paths = service.files.complete(typed.text)
    except FlexAssistError:
        # Typing goes on; sending names the reason.
        return ()
    return tuple((f"{file_reference(path)} ", "") for path in paths)


def _commands(typed: str) -> tuple[Choice, ...]:
    notes = {
        f"/{command.name}{' ' if command.argument and not command.optional else ''}": (
            f"{command.help}  ({command.argument})" if command.argument else command.help
        )
        for command in COMMANDS
    }
    return tuple((name, notes[name]) for name in choices(f"/{typed}", list(notes)))
