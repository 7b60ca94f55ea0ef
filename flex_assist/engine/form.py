"""In which form a language's weights are served: adapters over the base, or one merged file.

A merged file decodes faster, for nothing is added at each step, and takes memory of its own for
each language. Which one is better here depends on the machine, so it is measured once.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from flex_assist.engine.interrupt import Interrupt, Paused
from flex_assist.engine.protocol import Form

if TYPE_CHECKING:
    from collections.abc import Callable

    from flex_assist.engine.context import Context

# A usual completion: the prompt's new tokens, most being in the KV, and those of the answer.
USUAL_PROMPT_TOKENS: Final = 48
USUAL_ANSWER_TOKENS: Final = 16
PROBE_PROMPT_TOKENS: Final = 64
PROBE_ANSWER_TOKENS: Final = 8
PROBE_ROUNDS: Final = 3
# A merged file must be so much faster to be worth its memory.
WORTH: Final = 1.05
# The share of the free memory that merged files may take, unless a person says otherwise.
FREE_SHARE: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """How fast one form is, in tokens per second."""

    prefill: float
    decode: float

    @property
    def usual_ms(self) -> float:
        """Milliseconds of a usual completion."""
        return 1000 * (USUAL_PROMPT_TOKENS / self.prefill + USUAL_ANSWER_TOKENS / self.decode)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The form that answers.

    Attributes:
        why: One clause for people.
    """

    form: Form
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Memory for merged files, in bytes.

    Attributes:
        needed: By the file in question; 0 where it is in memory already.
        used: By the merged files of others.
        limit: For all together.
    """

    needed: int
    used: int
    limit: float

    @property
    def enough(self) -> bool:
        """Whether the file fits."""
        return not self.needed or self.used + self.needed <= self.limit


def decide(wanted: str, room: Room, speeds: Mapping[str, Speed] | None) -> Decision:
    """Choose between adapters over the base and the file in which they are merged.

    Args:
        wanted: The setting ``engine.form``.
        speeds: Of ``adapter`` and ``merged``; None while they are not known.
    """
    if wanted == "adapter":
        return Decision(form="adapter", why="engine.form is adapter")
    if wanted == "merged":
        return Decision(form="merged", why="engine.form is merged")
    if not room.enough:
        needs = f"the merged file needs {room.needed / 1e6:.0f} MB"
        left = f"{max(0.0, room.limit - room.used) / 1e6:.0f} MB are left for it"
        return Decision(form="adapter", why=f"{needs}, and {left}")
    if speeds is None:
        return Decision(form="adapter", why="the merged file is not measured yet")
    adapter_ms, merged_ms = speeds["adapter"].usual_ms, speeds["merged"].usual_ms
    compared = f"a usual completion takes {merged_ms:.0f} ms merged and {adapter_ms:.0f} ms not"
    if adapter_ms >= WORTH * merged_ms:
        return Decision(form="merged", why=compared)
    return Decision(form="adapter", why=compared)


def measure(context: "Context", interrupt: Interrupt) -> Generator[None, None, Speed]:
    """How fast a context is. Its KV is empty afterwards; gives control back after each step."""
    prompt = [token % context.model.vocabulary_size for token in range(PROBE_PROMPT_TOKENS)]
    prefill_s, decode_s = [], []
    for _ in range(PROBE_ROUNDS):
        context.clear()
        prefill_s.append((yield from _timed(partial(context.extend, prompt, interrupt))))
        for token in prompt[:PROBE_ANSWER_TOKENS]:
            decode_s.append((yield from _timed(partial(context.append, token, interrupt))))
    context.clear()
    # The quickest: whatever else the machine does only adds.
    return Speed(prefill=PROBE_PROMPT_TOKENS / min(prefill_s), decode=1 / min(decode_s))


def _timed(step: "Callable[[], Any]") -> Generator[None, None, float]:
    """Seconds of a step, done again when it was interrupted."""
    while True:
        started_s = perf_counter()
        try:
            step()
        except Paused:
            yield
            continue
        seconds = perf_counter() - started_s
        yield
        return max(seconds, 1e-9)


def as_record(speeds: Mapping[str, Speed]) -> dict[str, list[float]]:
    """Speeds as plain data."""
    return {name: [speed.prefill, speed.decode] for name, speed in speeds.items()}


def from_record(record: object) -> dict[str, Speed] | None:
    """Speeds from plain data; None where they are not whole."""
    if not isinstance(record, Mapping):
        return None
    found = {name: _speed(record.get(name)) for name in ("adapter", "merged")}
    return {name: speed for name, speed in found.items() if speed} if all(found.values()) else None


def _speed(values: object) -> Speed | None:
    if not isinstance(values, Sequence) or len(values) != 2:
        return None
    if not all(isinstance(value, float) and 0 < value < float("inf") for value in values):
        return None
    return Speed(prefill=values[0], decode=values[1])
