"""When more training does no good any more: the loss on code that is not trained on, as it goes on.

Of importance from the second pass over the data on; a shorter run is not validated.

Source: Prechelt, "Early Stopping - But When?", 1998.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from flex_assist.repository.documents import Document

LEAST_DOCUMENTS = 2
MOST_SAMPLES = 32
PASSES = 1.5
EVALUATIONS = 12
PATIENCE = 3


@dataclass(slots=True, kw_only=True)
class Stopper:
    """Follows the validation loss and keeps the best weights.

    Attributes:
        history: Step and loss, nats a label, of each evaluation.
        weights: Those of the best one.
    """

    history: list[tuple[int, float]] = field(default_factory=list)
    weights: dict[str, Tensor] | None = None

    @property
    def best(self) -> tuple[int, float]:
        """Step and loss of the best evaluation; the earliest of equal ones."""
        return min(self.history, key=lambda one: (one[1], one[0]), default=(0, math.inf))

    @property
    def exhausted(self) -> bool:
        """Whether the last ``PATIENCE`` evaluations were all worse than the best."""
        steps = [step for step, _ in self.history]
        return bool(steps) and len(steps) - 1 - steps.index(self.best[0]) >= PATIENCE

    def see(self, step: int, loss: float, weights: Mapping[str, Tensor]) -> None:
        """Take note of an evaluation."""
        if loss < self.best[1]:
            self.weights = {name: tensor.clone() for name, tensor in weights.items()}
        self.history.append((step, loss))


def due(step: int, steps: int) -> bool:
    """Whether the loss is to be looked at after ``step`` of ``steps``."""
    return step == steps or step % max(1, steps // EVALUATIONS) == 0


def validation(tune: Sequence[Document], passes: float) -> tuple[Document, ...]:
    """What to validate on: nothing where there are few documents for it, or few passes."""
    enough = passes >= PASSES and len(tune) >= LEAST_DOCUMENTS
    return tuple(tune) if enough else ()
