"""What watching does next. Pure: everything that is known comes in, with the time."""

from dataclasses import dataclass
from typing import Literal

from flex_assist.config import WatchSettings

Action = Literal["wait", "look", "adapt", "end"]
# A root that has gone may come back: a folder that is renamed, a disk that is mounted again.
GONE_S = 5.0
# Looks that take longer than this take at most this share of the time, however often files change.
CHEAP_LOOK_S, LOOK_SHARE = 10.0, 0.02
# After a run that failed: so long, and twice as long after each one more.
BACK_OFF_S, MOST_BACK_OFF_S = 600.0, 24 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What of the code is new since the last run.

    Attributes:
        by_language: Files that are new or changed; equal ones count once.
        share: Of all characters of the code, those of these files.
    """

    by_language: dict[str, int]
    share: float

    @property
    def files(self) -> int:
        """Of all languages."""
        return sum(self.by_language.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What else the machine does.

    Attributes:
        idle_s: For so long it has been idle.
        busy_with: What it is busy with, for people; empty while idle.
        on_battery: False also where it is not known.
    """

    idle_s: float
    busy_with: str = ""
    on_battery: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that is known at one time; times in seconds of one clock that never goes back.

    Attributes:
        gone_since_s: When the root was first missed; None while it is there.
        noticed_s: When a file last changed; None without a change.
        looked_s: When the last look began; None before the first.
        look_took_s: How long it took.
        adapted: Whether there has been a run at all.
        changes: What the last look found.
        ended_s: When the last run ended; None where it is not known.
        failures: Runs that failed, one after the other, up to now.
        in_use: Another process adapts the repository.
        machine: None where nothing depends on it.
    """

    now_s: float
    gone_since_s: float | None = None
    noticed_s: float | None = None
    looked_s: float | None = None
    look_took_s: float = 0.0
    adapted: bool = True
    changes: Changes | None = None
    ended_s: float | None = None
    failures: int = 0
    in_use: bool = False
    machine: Machine | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to do, and why.

    Attributes:
        reason: For people. The same for as long as the reason is the same.
    """

    action: Action
    reason: str


def decide(facts: Facts, settings: WatchSettings, *, now_asked: bool = False) -> Decision:
    """What to do next.

    Args:
        now_asked: A run was asked for, whatever has changed and whatever else goes on.
    """
    if facts.gone_since_s is not None:
        if facts.now_s - facts.gone_since_s >= GONE_S:
            return Decision(action="end", reason="the repository has gone")
        return Decision(action="wait", reason="the repository has gone; waiting for it")
    if now_asked and facts.looked_s is not None:
        return _unless_in_use(facts, "as asked for")
    if not facts.adapted and not now_asked:
        return Decision(
            action="wait",
            reason="there is no adapter yet; run `flex-assist watch --now`, or `flex-assist adapt`",
        )
    if _stale(facts):
        return _look(facts, settings)
    assert facts.changes is not None  # There was a look.
    if not enough(facts.changes, settings):
        return Decision(action="wait", reason="too little has changed")
    return _unless_in_the_way(facts, facts.changes, settings)


def enough(changes: Changes, settings: WatchSettings) -> bool:
    """Whether to adapt again for these changes."""
    if not changes.files:
        return False
    return changes.files >= settings.changed_files or changes.share >= settings.changed_share


def back_off_s(failures: int) -> float:
    """How long to wait after so many runs that failed."""
    return float(min(MOST_BACK_OFF_S, BACK_OFF_S * 2.0 ** min(failures - 1, 30))) if failures else 0


def _stale(facts: Facts) -> bool:
    """Whether something may have changed since the last look."""
    if facts.looked_s is None:
        return True
    return facts.noticed_s is not None and facts.noticed_s >= facts.looked_s


def _look(facts: Facts, settings: WatchSettings) -> Decision:
    if facts.looked_s is None:
        return Decision(action="look", reason="starting")
    assert facts.noticed_s is not None  # Or nothing would be stale.
    if facts.now_s - facts.noticed_s < settings.quiet_s:
        return Decision(action="wait", reason="files are changing")
    dear = facts.look_took_s > CHEAP_LOOK_S
    if dear and facts.now_s - facts.looked_s < facts.look_took_s / LOOK_SHARE:
        return Decision(action="wait", reason="looked a short while ago")
    return Decision(action="look", reason="files have changed")


def _unless_in_the_way(facts: Facts, changes: Changes, settings: WatchSettings) -> Decision:
    since_s = float("inf") if facts.ended_s is None else facts.now_s - facts.ended_s
    machine = facts.machine
    why = ""
    if since_s < back_off_s(facts.failures):
        why = f"the last run failed; trying again after {back_off_s(facts.failures) / 60:.0f} min"
    elif since_s < settings.min_interval_s:
        why = "the last run ended a short while ago"
    elif settings.on_mains and machine is not None and machine.on_battery:
        why = "on battery"
    elif settings.when_idle and machine is not None and machine.busy_with:
        why = f"the machine is busy: {machine.busy_with}"
    elif settings.when_idle and machine is not None and machine.idle_s < settings.idle_s:
        why = "waiting until the machine has been idle for a while"
    if why:
        return Decision(action="wait", reason=why)
    return _unless_in_use(facts, described(changes))


def _unless_in_use(facts: Facts, reason: str) -> Decision:
    if facts.in_use:
        return Decision(action="wait", reason="another process adapts the repository")
    return Decision(action="adapt", reason=reason)


def described(changes: Changes) -> str:
    """Changes, for people."""
    if not changes.files:
        return "nothing has changed"
    each = sorted(changes.by_language.items(), key=lambda pair: (-pair[1], pair[0]))
    files = ", ".join(f"{count} {name}" for name, count in each)
    noun = "file" if changes.files == 1 else "files"
    return f"{changes.files} new or changed {noun} ({files}; {changes.share:.1%} of the code)"
