"""The command that editors run after a suggestion went into the text."""

from collections.abc import Callable
from typing import Any

from lsprotocol import types

from flex_lsp.session import Session

COMMAND = "flex-assist.accepted"


def attached(identity: str) -> types.Command:
    """The command, for the suggestion with this identity."""
    return types.Command(title="Accepted", command=COMMAND, arguments=[identity])


def command(session: Session) -> Callable[..., None]:
    """The command's work: note that the suggestion was taken."""

    def note(*arguments: Any) -> None:
        if arguments and isinstance(arguments[0], str):
            session.history.accept(arguments[0])

    return note
