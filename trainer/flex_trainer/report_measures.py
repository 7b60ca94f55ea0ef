"""Before and after: the figures of the gate, each with its interval, in words and as a drawing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flex_trainer import report_curves

REFERENCE = "base + retrieval"
HOLDOUTS = {"test": "drawn by the seed", "recent": "what the newest commits touched"}
DRIFT = {"code": "generic code: Python's standard library", "chat": "chat: general questions"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One figure of the base and of the adapted model.

    Attributes:
        n: On how much it was measured.
        less_is_better: Otherwise more.
        low: With ``high`` the 95 % interval of adapted - base; None where it is not known.
    """

    key: str
    name: str
    meaning: str
    n: str
    less_is_better: bool
    base: float
    adapted: float
    low: float | None
    high: float | None

    @property
    def change(self) -> float:
        """Adapted - base."""
        return self.adapted - self.base

    @property
    def verb(self) -> str:
        """What it did, by the numbers as they are shown."""
        before, after = f"{self.base:.3f}", f"{self.adapted:.3f}"
        if before == after:
            return "stayed"
        return "fell" if self.adapted < self.base else "rose"

    @property
    def certainty(self) -> str:
        """``better`` or ``worse`` where the whole interval is; otherwise ``unclear``."""
        if self.low is None or self.high is None or self.low <= 0 <= self.high:
            return "unclear"
        return "better" if (self.high < 0) == self.less_is_better else "worse"

    @property
    def drawing(self) -> report_curves.Interval | None:
        """The change and its interval."""
        if self.low is None or self.high is None:
            return None
        return report_curves.interval(self.low, self.change, self.high)


def measures(metrics: Mapping[str, Any]) -> tuple[Measure, ...]:
    """Those that a manifest's ``metrics`` hold; the first is the one that decides."""
    windows, files = metrics.get("windows", 0), metrics.get("files", 0)
    texts = f"{windows} windows" + (f" of {files} files" if files else "")
    texts += f", {metrics.get('window_tokens', 0):,} tokens"
    places = f"{metrics.get('spans', 0)} places"
    written = f"{metrics.get('written', metrics.get('spans', 0))} places"
    kinds = (
        ("bits_per_byte", "Bits per byte", "ci95", True, texts,
         "how many bits the model needs to spell out a byte of plain code; this decides"),
        ("fim_nats", "Infilling loss", "fim_nats_ci95", True, places,
         "nats a token of the text that was cut out at a place"),
        ("exact_match", "Exact match", "exact_match_ci95", False, written,
         "share of the places at which exactly the missing text was written"),
        ("edit_similarity", "Edit similarity", "edit_similarity_ci95", False, written,
         "1 − edit distance / longer length, of what was written and what was there"),
    )  # fmt: skip
    found = []
    for key, name, interval, less_is_better, n, meaning in kinds:
        pair, ends = metrics.get(key), metrics.get(interval)
        if pair is None:
            continue
        low, high = ends if ends is not None else (None, None)
        found.append(
            Measure(
                key=key,
                name=name,
                meaning=meaning,
                n=n,
                less_is_better=less_is_better,
                base=pair["base"],
                adapted=pair["adapted"],
                low=low,
                high=high,
            )
        )
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of a table of figures; an interval only where one is known."""

    name: str
    base: float
    adapted: float
    interval: Sequence[float] | None
    n: str
    note: str = ""

    @property
    def change(self) -> float:
        """Adapted - base."""
        return self.adapted - self.base

    @property
    def low(self) -> float | None:
        """Of the interval of the change."""
        return None if self.interval is None else self.interval[0]

    @property
    def high(self) -> float | None:
        """Of the interval of the change."""
        return None if self.interval is None else self.interval[1]


def arms(metrics: Mapping[str, Any]) -> tuple[Row, ...]:
    """Infilling loss of each arm beside that of the base with retrieval."""
    found = metrics.get("arms") or {}
    reference = found.get(REFERENCE)
    if reference is None:
        return ()
    n = f"{metrics.get('spans', 0)} places"
    return tuple(
        Row(name=name, base=reference["nats"], adapted=one["nats"], n=n, interval=one["ci95"])
        for name, one in found.items()
    )


def holdouts(metrics: Mapping[str, Any]) -> tuple[Row, ...]:
    """Bits per byte on each part of what was held out."""
    return tuple(
        Row(
            name=name,
            note=HOLDOUTS.get(name, ""),
            n=f"{one['windows']} windows of {one['files']} files",
            **one["bits_per_byte"],
            interval=one["ci95"],
        )
        for name, one in (metrics.get("holdouts") or {}).items()
        if one["bits_per_byte"] is not None
    )


def drift(metrics: Mapping[str, Any]) -> tuple[Row, ...]:
    """Nats a token on texts that have nothing to do with the repository."""
    return tuple(
        Row(
            name=DRIFT.get(name, name),
            base=one["base"],
            adapted=one["adapted"],
            n=f"{one['texts']} texts, {one['tokens']:,} tokens",
            note=f"may rise by {one['bound']:.2f}",
            interval=one["ci95"],
        )
        for name, one in (metrics.get("drift") or {}).items()
    )


def rival(metrics: Mapping[str, Any]) -> Row | None:
    """Bits per byte of the version that was active, where one was."""
    one = metrics.get("active")
    if not one:
        return None
    return Row(
        name=one["version"],
        base=one["active"],
        adapted=one["adapted"],
        n=f"{one['windows']} windows of {one['files']} files that neither was trained on",
        interval=one["ci95"],
    )
