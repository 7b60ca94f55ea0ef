"""Windows of plain text, and the bits that models need for them, measured in turn.

All weights are asked for the same windows, one window after the other, so that a machine that
became slow shortens the measurement and does not bend it.
"""

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flex_assist.engine.local import LocalEngine
from flex_assist.engine.protocol import TextPiece, Weights
from flex_assist.evaluate.bootstrap import Interval, by_file_ci95
from flex_assist.repository.documents import Document
from flex_trainer.time_limit import TimeLimit

WINDOW_TOKENS = 512
# Where there is little time, more and shorter windows tell more than a few long ones.
SHORT_WINDOW_TOKENS = 128
LEAST_WINDOW_TOKENS = 16
# Fewer windows, each of another file, have no interval worth the name: nothing is promoted then.
LEAST_WINDOWS = 8
# So many tell whether a version that has passed already is better; of fewer nothing is said.
LEAST_RIVAL_WINDOWS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A piece of a document.

    Attributes:
        file: The document's number.
        size: Bytes that the tokens but the first, which is not predicted, stand for.
    """

    file: int
    tokens: tuple[int, ...]
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Bits:
    """What each of several weights needed for the same windows.

    Attributes:
        arms: For each of the weights one number a window.
    """

    windows: tuple[Window, ...]
    arms: tuple[tuple[float, ...], ...]

    @property
    def files(self) -> int:
        """How many files the windows are of."""
        return len({window.file for window in self.windows})

    def per_byte(self, arm: int) -> float:
        """Of all windows together."""
        return sum(self.arms[arm]) / max(1, sum(window.size for window in self.windows))

    def ci95(self, before: int, after: int, seed: int) -> Interval:
        """Interval of how many bits per byte the arm ``after`` needs more than ``before``."""
        if not self.windows:
            return 0.0, 0.0
        return by_file_ci95(
            self.arms[before],
            self.arms[after],
            [window.size for window in self.windows],
            [window.file for window in self.windows],
            seed,
        )

    def of(self, digests: Sequence[str], chosen: Collection[str]) -> "Bits":
        """Those of chosen files.

        Args:
            digests: Of all files, by their numbers.
            chosen: Some of the digests.
        """
        kept = [at for at, one in enumerate(self.windows) if digests[one.file] in chosen]
        return Bits(
            windows=tuple(self.windows[at] for at in kept),
            arms=tuple(tuple(arm[at] for at in kept) for arm in self.arms),
        )


async def draw(
    engine: LocalEngine,
    model: Path,
    documents: Sequence[Document],
    *,
    tokens: int,
    seed: int,
    length: int = WINDOW_TOKENS,
) -> list[Window]:
    """Windows of the documents, from each in turn, until there are so many tokens.

    Args:
        length: Most tokens of a window.
    """
    ids = await engine.tokenize(model, [TextPiece(text=document.text) for document in documents])
    order = random.Random(f"{seed}:windows")
    queues = []
    for found in ids:
        queue = [tuple(found[at : at + length]) for at in range(0, len(found), length)]
        order.shuffle(queue)
        queues.append(queue)
    chosen, used = [], 0
    for number, window in _in_turn(queues):
        if used >= tokens:
            break
        if len(window) >= LEAST_WINDOW_TOKENS:
            sizes = await engine.byte_lengths(model, window[1:])
            chosen.append(Window(file=number, tokens=window, size=sum(sizes)))
            used += len(window)
    return chosen


async def measure(
    engine: LocalEngine, arms: Sequence[Weights], windows: Sequence[Window], limit: TimeLimit
) -> Bits:
    """The bits of the windows that there is time for, by each of the weights."""
    used: list[Window] = []
    bits: tuple[list[float], ...] = tuple([] for _ in arms)
    for window in windows:
        if limit.over(len(used), LEAST_WINDOWS):
            break
        for weights, values in zip(arms, bits, strict=True):
            (loss,) = await engine.score(weights, [window.tokens])
            values.append(float(loss.sum()) / float(np.log(2)))
        used.append(window)
    return Bits(windows=tuple(used), arms=tuple(tuple(values) for values in bits))


def _in_turn(queues: Sequence[list[tuple[int, ...]]]) -> list[tuple[int, tuple[int, ...]]]:
    rounds = max((len(queue) for queue in queues), default=0)
    return [
        (number, queue[at])
        for at in range(rounds)
        for number, queue in enumerate(queues)
        if at < len(queue)
    ]
