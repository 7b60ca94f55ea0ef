"""What is trained on while measuring, and how busy the machine is meanwhile."""

import os
import random
from collections.abc import Callable, Iterable
from pathlib import Path

import flex_assist
from flex_trainer.startup import repository_root

LEAST_TOKENS = 16


def root_of(repo: Path | None) -> Path:
    """The repository to take; without one, the sources of this package.

    Raises:
        DataError: It is not a folder.
    """
    if repo is None:
        return Path(flex_assist.__file__).parent
    return repository_root(repo)


def load_average() -> float | None:
    """What the machine was busy with in the last minute, this process included; None on Windows."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def pieces(
    texts: Iterable[str], encode: Callable[[str], list[int]], length: int, seed: int = 0
) -> list[tuple[int, ...]]:
    """Token ids in pieces of at most ``length``, in random order.

    A file's rest of less than ``LEAST_TOKENS`` is left out.
    """
    found: list[tuple[int, ...]] = []
    for text in texts:
        ids = encode(text)
        found.extend(tuple(ids[at : at + length]) for at in range(0, len(ids), length))
    found = [piece for piece in found if len(piece) >= min(LEAST_TOKENS, length)]
    random.Random(seed).shuffle(found)
    return found
