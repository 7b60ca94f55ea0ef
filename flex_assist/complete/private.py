"""What of the text around a cursor must not be in a prompt: secrets.

A model that sees a key may well write it again elsewhere; and prompts outlive their request, in KV
that is kept.
"""

from functools import lru_cache

from flex_assist.repository import secrets

LONGEST_LINE = 4096


def without_secrets(before: str, after: str, most_characters: int) -> tuple[str, str]:
    """The texts before and after a cursor with their secrets masked; the lines stay.

    Args:
        most_characters: So far from the cursor a prompt may reach.
    """
    reached = max(0, len(before) - most_characters)
    # The rest of the line may be a part of a secret, but a line can be as long as a file.
    cut = max(before.rfind("\n", 0, reached) + 1, reached - LONGEST_LINE)
    return before[:cut] + _redacted(before[cut:]), _redacted(after[:most_characters])


# Behind the cursor little changes while somebody types.
@lru_cache(maxsize=32)
def _redacted(text: str) -> str:
    return secrets.redact(text)
