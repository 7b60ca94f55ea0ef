"""The command that writes the last requests into a file for a bug report."""

from collections.abc import Callable

from flex_lsp.session import Session

COMMAND = "flex-assist.report"


def command(session: Session) -> Callable[..., dict[str, str]]:
    """The command's work: gives the path of the file, which holds no code, names or places."""

    def write(*arguments: object) -> dict[str, str]:
        return {"path": str(session.write_report())}

    return write
