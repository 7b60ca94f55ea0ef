"""The command that tells why there was this completion, or none."""

from collections.abc import Callable
from typing import Any

from flex_lsp.session import Session

COMMAND = "flex-assist.why"


def command(session: Session) -> Callable[..., dict[str, Any] | None]:
    """The command's work. Argument: a suggestion's identity; without it the last one counts."""

    def explain(*arguments: Any) -> dict[str, Any] | None:
        identity = arguments[0] if arguments and isinstance(arguments[0], str) else None
        record = session.history.last(identity)
        return record.as_json() if record is not None else None

    return explain
