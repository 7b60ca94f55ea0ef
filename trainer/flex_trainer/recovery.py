"""What happens when a run blows up: back to the last good state, with smaller steps.

A loss that is not a number, or that climbs far above where it has been, will not come down again by
itself. Sophia's steps become smaller in two ways: a lower rate, and a higher clipping threshold for
the entries whose steps are not clipped.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from flex_assist.errors import FlexAssistError

RATE_FACTOR, RHO_FACTOR = 0.5, 2.0
MOST_RECOVERIES = 4
# The mean loss of the last steps over the best such mean: above it a run has blown up.
WINDOW = 8
EXPLOSION_NATS = 1.5


class DivergedError(FlexAssistError):
    """Training blew up again and again."""


@dataclass(slots=True, kw_only=True)
class LossWatch:
    """Follows the loss of a run.

    Attributes:
        recent: Losses of the last steps, nats a label.
        best: The lowest mean of ``WINDOW`` losses.
    """

    recent: list[float] = field(default_factory=list)
    best: float = math.inf

    def verdict(self, loss: float, gradient_norm: float) -> str | None:
        """Why this step must not be taken; None where all is well."""
        if not math.isfinite(loss):
            return f"the loss was {loss}"
        if not math.isfinite(gradient_norm):
            return f"the gradient's norm was {gradient_norm}"
        self.recent = [*self.recent, loss][-WINDOW:]
        if len(self.recent) < WINDOW:
            return None
        mean = sum(self.recent) / WINDOW
        if mean > self.best + EXPLOSION_NATS:
            return f"the loss rose from {self.best:.2f} to {mean:.2f}"
        self.best = min(self.best, mean)
        return None

    @classmethod
    def after(cls, losses: Sequence[float]) -> "LossWatch":
        """As it is after a run with these losses."""
        watch = cls()
        for loss in losses:
            watch.verdict(loss, 0.0)
        return watch
