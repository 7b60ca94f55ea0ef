"""The command that asks the same again."""

from collections.abc import Awaitable, Callable
from typing import Any

from flex_lsp.session import Session

COMMAND = "flex-assist.again"


def command(session: Session) -> Callable[..., Awaitable[dict[str, Any] | None]]:
    """The command's work. Argument: a suggestion's identity; without it the last one counts.

    Its answer is that of ``flex-assist.why`` for the new request. Nothing is shown or changed.
    """

    async def ask_again(*arguments: Any) -> dict[str, Any] | None:
        identity = arguments[0] if arguments and isinstance(arguments[0], str) else None
        record = await session.repeat(identity)
        return record.as_json() if record is not None else None

    return ask_again
