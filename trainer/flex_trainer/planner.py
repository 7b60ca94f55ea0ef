"""What fits: rows and recomputation within the memory, steps within the time.

Everything is decided before training starts, from measurements: what a few tokens keep for the
gradient, how long a few steps take. Nothing is decided anew when a run is resumed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from flex_assist.errors import ConfigError, ModelError
from flex_trainer.budget import EXPORT_S, Budget
from flex_trainer.gate import ADAPTER_COST, least_tokens
from flex_trainer.gate_spans import LEAST_CASES, LEAST_WRITTEN
from flex_trainer.loop import LEAST_ROW_TOKENS
from flex_trainer.memory import Footprint
from flex_trainer.recipe import Recipe
from flex_trainer.selection import AdapterTask

# Of the free memory; the rest stays free: what else runs on the machine grows too.
MEMORY_SHARE = 0.9
LEAST_STEPS = 4
# Samples repeat text (windows overlap, other files' pieces): tokens computed for one of the data.
TOKENS_PER_TOKEN = 1.5
# The base's and the adapter's answer into one place; the losses alone at one more.
SPAN_S, LOSS_S = 2.0, 0.5
# A budget may be overdrawn by this much before it is refused.
TOLERANCE = 1.15


class ShortOfMemory(ModelError):
    """The base cannot be trained in the memory that there is.

    Args:
        needs: How much is needed, and how much there is.
        advice: What to do.
    """

    def __init__(self, needs: str, advice: str) -> None:
        super().__init__(f"{needs}; {advice}")
        self.needs = needs


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What a run is expected to take.

    Attributes:
        memory_mb: The most that is held while training.
        training_s: All steps of all adapters.
        total_s: The whole command.
    """

    memory_mb: float
    training_s: float
    total_s: float

    def against(self, memory_mb: float, training_s: float, total_s: float) -> dict[str, object]:
        """Beside what it came to, as reports keep it."""
        measured = replace(self, memory_mb=memory_mb, training_s=training_s, total_s=total_s)
        return {"predicted": rounded(self), "measured": rounded(measured)}


def rounded(prediction: Prediction) -> dict[str, float]:
    """For people and JSON."""
    return {key: round(value, 1) for key, value in asdict(prediction).items()}


def rungs(recipe: Recipe) -> Iterator[Recipe]:
    """Recipes that need less and less memory: shorter rows first, then recomputation."""
    row = recipe.row_tokens
    while row >= LEAST_ROW_TOKENS:
        yield replace(recipe, row_tokens=row)
        row //= 2
    row = recipe.row_tokens
    while row >= LEAST_ROW_TOKENS:
        yield replace(recipe, row_tokens=row, checkpointing=True)
        row //= 2


def fit(
    recipe: Recipe, footprints: Mapping[bool, Footprint], longest: int, room_mb: float
) -> tuple[Recipe, float] | None:
    """The first recipe that fits into ``room_mb``, and its peak in MB; None if none does.

    Args:
        footprints: Without and with recomputation.
        longest: Tokens of the longest sample: a row is never shorter.
    """
    for one in rungs(recipe):
        peak_mb = footprints[one.checkpointing].peak_mb(max(one.row_tokens, longest))
        if peak_mb <= room_mb:
            return one, peak_mb
    return None


def share_steps(
    tasks: Sequence[AdapterTask], seconds: float, step_s: float, recipe: Recipe, epochs: float
) -> dict[str, int]:
    """Steps of each adapter: time by the size of its data, at most ``epochs`` passes.

    Time that a small language cannot use goes to the others.
    """
    all_steps = {
        task.name: epochs * task.tokens * TOKENS_PER_TOKEN / recipe.batch_tokens for task in tasks
    }
    most = {name: max(LEAST_STEPS, round(steps)) for name, steps in all_steps.items()}
    left, chosen = int(seconds / step_s), dict[str, int]()
    waiting = sorted(tasks, key=lambda task: most[task.name] / max(1, task.tokens) ** 0.5)
    while waiting:
        weights = [task.tokens**0.5 for task in waiting]
        task = waiting.pop(0)
        fair = int(left * weights[0] / sum(weights))
        chosen[task.name] = max(LEAST_STEPS, min(most[task.name], fair))
        left = max(0, left - chosen[task.name])
    return chosen


def predict(
    budget: Budget,
    steps: Mapping[str, int],
    step_s: float,
    memory_mb: float,
    prompt_tokens_per_s: float,
    lanes: int = 1,
) -> Prediction:
    """What a run of so many steps will take, what has passed included.

    Args:
        lanes: Processes that make adapters side by side.
    """
    training_s = sum(steps.values()) * step_s
    gate_s = max(budget.gate_s(len(steps)), least_gate_s(prompt_tokens_per_s))
    after_s = -(-len(steps) // lanes) * (EXPORT_S + gate_s)
    return Prediction(
        memory_mb=memory_mb,
        training_s=training_s,
        total_s=budget.spent_s() + training_s / lanes + after_s,
    )


def least_gate_s(prompt_tokens_per_s: float) -> float:
    """Seconds that the gate of one adapter takes at the least."""
    texts_s = ADAPTER_COST * least_tokens() / prompt_tokens_per_s
    return texts_s + LEAST_WRITTEN * SPAN_S + (LEAST_CASES - LEAST_WRITTEN) * LOSS_S


def least_seconds(
    budget: Budget, adapters: int, step_s: float, prompt_tokens_per_s: float
) -> float:
    """Seconds of the shortest run that does everything once, what has passed included."""
    each = LEAST_STEPS * step_s + EXPORT_S + least_gate_s(prompt_tokens_per_s)
    return budget.spent_s() + adapters * each


def check_budget(budget: Budget, adapters: int, step_s: float, prompt_tokens_per_s: float) -> None:
    """Refuse a budget in which nothing can be done.

    Raises:
        ConfigError: Says the least that is needed.
    """
    least = least_seconds(budget, adapters, step_s, prompt_tokens_per_s)
    if least > TOLERANCE * budget.seconds:
        each = "one adapter" if adapters == 1 else f"{adapters} adapters"
        raise ConfigError(
            f"a budget of {budget.seconds:.0f} s is too short for {each} on this machine; "
            f"the least is about {least:.0f} s: give --budget {10 * round(least / 10 + 1):.0f}s"
            + (", or name one --language" if adapters > 1 else "")
        )
