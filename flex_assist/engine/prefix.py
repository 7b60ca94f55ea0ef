"""What two prompts have in common."""

from collections.abc import Sequence


def shared(held: Sequence[int], wanted: Sequence[int]) -> int:
    """How many tokens two sequences begin with alike."""
    pairs = enumerate(zip(held, wanted, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(held), len(wanted)))
