"""Short words to the person. Never read as markup: they quote what others wrote."""

from typing import Any

from textual.screen import Screen

from flex_assist.chat.export import printable
from flex_assist.chat.service import Prepared

LONG_S = 12.0


def tell(screen: Screen[Any], text: str) -> None:
    """Something was done."""
    screen.notify(printable(text), markup=False)


def warn(screen: Screen[Any], text: str) -> None:
    """Something was not done, or not in full."""
    screen.notify(printable(text), severity="warning", markup=False)


def fail(screen: Screen[Any], text: str) -> None:
    """Something failed."""
    screen.notify(
        printable(text), title="That did not work", severity="error", timeout=LONG_S, markup=False
    )


def unexpected(error: Exception) -> str:
    """What is said of an error that nobody foresaw."""
    return f"unexpected {type(error).__name__}: {error}. Ask again; if it stays, report it"


def left_out(prepared: Prepared) -> str | None:
    """What of the conversation the model does not get to read, for people; None if nothing."""
    parts = []
    if prepared.dropped:
        number = (
            f"{prepared.dropped} oldest questions" if prepared.dropped > 1 else "oldest question"
        )
        parts.append(f"the {number} and what was answered")
    if prepared.cut:
        parts.append(f"the end of {', '.join(prepared.cut)}")
    return f"The context is full. Left out: {'; '.join(parts)}." if parts else None
