"""The last look at a prompt before it leaves: secrets, and text that poses as control tokens.

A prompt with a secret is not masked but kept: it is answered on this machine, where nothing need be
blotted out, and a filter that mends what it found would only hide how close it was.
"""

from collections.abc import Sequence
from pathlib import Path

from flex_assist.engine.protocol import Engine, TextPiece
from flex_assist.repository.secrets import contains_secret


def secret_in(spelled: Sequence[bytes]) -> str | None:
    """The first secret of a prompt, by rule and line, never by its text; None without one.

    Args:
        spelled: What each token stands for; control tokens nothing, which ends a line here.
    """
    text = b"".join(one or b"\n" for one in spelled).decode("utf-8", "replace")
    found = contains_secret(text)
    return found.describe().rpartition(" at ")[0] if found else None


async def as_text(local: Engine, model: Path, tokens: Sequence[int]) -> str | None:
    """A prompt as text that a server reads as the same control tokens; None if there is none.

    What a repository's file says must not turn into a control token on the way. It would, in a
    prompt sent as text, where it spells one.
    """
    named = await local.spell(model, tokens, control=True)
    try:
        text = b"".join(named).decode("utf-8")
    except UnicodeDecodeError:
        return None
    [read] = await local.tokenize(model, [TextPiece(text=text, special=True)])
    return (
        text if await _control(local, model, tokens) == await _control(local, model, read) else None
    )


async def _control(local: Engine, model: Path, tokens: Sequence[int]) -> list[int]:
    plain = await local.spell(model, tokens)
    return [token for token, spelled in zip(tokens, plain, strict=True) if not spelled]
