"""What the gate saw of an adapter: the figures that a manifest keeps."""

from dataclasses import asdict, dataclass, field
from typing import Any

from flex_assist.evaluate.bootstrap import Interval
from flex_trainer.gate_drift import Drift
from flex_trainer.report_examples import NO_EXAMPLES, Examples


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A figure of the base and of the adapted model."""

    base: float
    adapted: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Infilling:
    """Loss of held-out middles by one arm.

    Attributes:
        nats: A token.
        ci95: Interval of the difference to the base with retrieval; None of a few places.
    """

    nats: float
    ci95: Interval | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldOut:
    """The same figures on one part of what was held out: ``test`` or ``recent``.

    Attributes:
        ci95: Interval of adapted - base in bits per byte; None without windows.
        fim_nats: By arm; nothing without places.
    """

    bits_per_byte: Pair | None
    ci95: Interval | None
    windows: int
    files: int
    spans: int
    fim_nats: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rival:
    """The version that is active, on files that it was not trained on.

    Attributes:
        active: Its bits per byte.
        adapted: The new adapter's, in the same windows.
        ci95: Interval of adapted - active.
    """

    version: str
    active: float
    adapted: float
    ci95: Interval
    windows: int
    files: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What the gate saw.

    Attributes:
        bits_per_byte: Of plain text, without retrieval.
        ci95: Interval of adapted - base in bits per byte.
        fim_nats: Loss of held-out middles with retrieval, nats a token.
        spans: Places whose loss was measured.
        written: Those that something was written into: what exact match and similarity are of.
        files: Whose text the windows are.
        fim_nats_ci95: Intervals of adapted - base, as ``ci95``; None of a few cases.
        arms: Infilling by ``base``, ``base + retrieval``, ``adapter + retrieval`` and, where a
            version is active, ``active + retrieval``.
        holdouts: The same told apart, by ``test`` and ``recent``, as far as there are files.
        drift: On texts that have nothing to do with the repository: ``code`` and, where the model
            knows chat, ``chat``.
        active: The version that is active; None without one of the same base that can be compared.
        uncompared: Why the version that is active could not be compared; empty where it was.
        seconds: That all of it took.
        examples: What each wrote into some cases: for the report only, see ``figures``.
    """

    bits_per_byte: Pair
    ci95: Interval
    fim_nats: Pair
    exact_match: Pair
    edit_similarity: Pair
    windows: int
    window_tokens: int
    spans: int
    written: int = 0
    files: int = 0
    fim_nats_ci95: Interval | None = None
    exact_match_ci95: Interval | None = None
    edit_similarity_ci95: Interval | None = None
    arms: dict[str, Infilling] = field(default_factory=dict)
    holdouts: dict[str, HoldOut] = field(default_factory=dict)
    drift: dict[str, Drift] = field(default_factory=dict)
    active: Rival | None = None
    uncompared: str = ""
    seconds: float = 0.0
    examples: Examples = NO_EXAMPLES

    def figures(self) -> dict[str, Any]:
        """All but the examples: what a manifest keeps. They are text of the repository."""
        return {key: value for key, value in asdict(self).items() if key != "examples"}
