"""The use case: watch a repository, and adapt again when enough has changed.

One loop, in one thread: what has happened is gathered, ``watch_decision`` says what to do, and it
is begun. What takes long (a look, a run) is done by processes that the loop waits for.

A run does not outlive its watcher by much: adapt stops, with a checkpoint, where nobody reads its
progress any more. So after a kill nothing trains unobserved, and the next watcher resumes the run.
"""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from flex_assist.adapters.registry import Registry
from flex_assist.config import Settings
from flex_assist.errors import BusyError, DataError
from flex_assist.locations import Locations, repository_id
from flex_assist.locks import exclusive
from flex_assist.repository.walk import list_repository
from flex_trainer import waiting, watch_changes, watch_decision, watch_tree
from flex_trainer.cli import EXIT_INTERRUPTED, EXIT_NOTHING_PROMOTED
from flex_trainer.startup import ASKED_FILE
from flex_trainer.watch_changes import Memory, Text
from flex_trainer.watch_child import Adapting, Child, Outcome
from flex_trainer.watch_decision import Decision, Facts, Machine
from flex_trainer.watch_look import parse
from flex_trainer.watch_machine import Others, on_battery
from flex_trainer.watch_notices import Notices, folders_of
from flex_trainer.watch_telling import Teller
from flex_trainer.watch_tree import Tree, WatchesRanOut

TICK_S = 0.5
# Folders are listed anew when so long none came or went, and at most a twentieth of the time.
FOLDERS_QUIET_S, LIST_SHARE = 2.0, 0.05
# For a single look at the load.
ONCE_LOOK_S = 3.0
EXIT_DONE, EXIT_FAILED = 0, 1
EXITS = {
    "promoted": EXIT_DONE,
    "refused": EXIT_NOTHING_PROMOTED,
    "interrupted": EXIT_INTERRUPTED,
    "failed": EXIT_FAILED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchOptions:
    """What was asked for.

    Attributes:
        once: Look, adapt if enough has changed, and end.
        now: Adapt at once, whatever has changed.
    """

    root: Path
    once: bool = False
    now: bool = False


def watch(options: WatchOptions, settings: Settings, locations: Locations, teller: Teller) -> int:
    """Watch until interrupted, or until the repository goes. Gives the exit code.

    Raises:
        BusyError: The repository is watched already.
        DataError: It cannot be listed.
    """
    registry = Registry(locations, options.root)
    what = f"watching {str(options.root)!r}"
    with exclusive(registry.folder / "watch.lock", what=what):
        watcher = _Watcher(options, settings, locations, registry, teller)
        with watcher.stoppable():
            return watcher.run()


class _Watcher:
    """The loop and what it knows; all times are ``time.monotonic()``."""

    def __init__(
        self,
        options: WatchOptions,
        settings: Settings,
        locations: Locations,
        registry: Registry,
        teller: Teller,
    ) -> None:
        self._root, self._once, self._now = options.root, options.once, options.now
        self._settings, self._locations = settings.watch, locations
        self._registry, self._teller = registry, teller
        identity = repository_id(options.root)
        self._memory_file = locations.watched(identity)
        self._asked_file = locations.training(identity) / ASKED_FILE
        self._memory = watch_changes.recall(self._memory_file)
        self._others = Others(settings.watch.idle_cores, settings.engine, locations)
        self._notices, self._tree = Notices(), None
        self._place = watch_tree.identity(options.root)
        self._interrupts, self._woken = 0, threading.Event()
        self._looking: Child | None = None
        self._look_said: list[str] = []
        self._adapting: Adapting | None = None
        self._resumed, self._begun_with = False, tuple[Text, ...]()
        self._texts: tuple[Text, ...] = ()
        self._folders_due_s, self._list_took_s = float("inf"), 0.0
        self._facts = Facts(now_s=time.monotonic())
        self._state: frozenset[tuple[str, str]] | None = None
        self._known: frozenset[str] = frozenset()

    _tree: Tree | None

    @contextlib.contextmanager
    def stoppable(self) -> Iterator[None]:
        """Within, Ctrl-C and SIGTERM end the loop, and are passed on to a run."""

        def ask(number: int, frame: object) -> None:
            self._interrupts += 1
            self._woken.set()

        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, ask) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            if self._tree is not None:
                self._tree.close()
            if self._looking is not None:
                self._looking.kill()

    def run(self) -> int:
        """Watch. Gives the exit code."""
        if not self._once:
            self._follow()
        while True:
            code = self._tick()
            if code is not None:
                return code
            if not self._woken.wait(TICK_S):
                continue
            self._woken.clear()

    def _tick(self) -> int | None:
        self._gather()
        if self._interrupts and self._adapting is None:
            return EXIT_INTERRUPTED
        if self._adapting is not None:
            return self._go_on_adapting(self._adapting)
        if self._looking is not None and self._facts.gone_since_s is None:
            return self._go_on_looking(self._looking)
        decision = self._decided()
        if decision.action == "end":
            self._teller.tell("gone", f"{str(self._root)!r} has gone: nothing is watched any more")
            return EXIT_FAILED
        if decision.action == "look":
            self._look()
        elif decision.action == "adapt":
            self._adapt(decision)
        elif self._once and self._facts.gone_since_s is None:
            self._teller.tell("done", f"not adapting: {decision.reason}")
            return EXIT_DONE
        else:
            self._teller.waits(decision.reason)
        return None

    # --- what has happened ------------------------------------------------------------------

    def _gather(self) -> None:
        now_s = time.monotonic()
        noticed = self._notices.take()
        self._facts = replace(self._facts, now_s=now_s)
        if noticed.last_s is not None:
            self._facts = replace(self._facts, noticed_s=noticed.last_s)
        if noticed.folders:
            self._folders_due_s = now_s + max(FOLDERS_QUIET_S, self._list_took_s / LIST_SHARE)
        self._check_root(now_s)
        if now_s >= self._folders_due_s and self._facts.gone_since_s is None:
            self._follow()
        if not self._once and self._adapting is None and self._looking is None:
            self._others.sample()
        self._read_registry()

    def _check_root(self, now_s: float) -> None:
        """Notice when the root goes, comes back, or is another folder."""
        found = watch_tree.identity(self._root)
        # Another file system has been mounted there, or the one that was there has gone.
        moved_disk = found is not None and self._place is not None and found[0] != self._place[0]
        if found is None or moved_disk:
            since_s = self._facts.gone_since_s
            self._facts = replace(self._facts, gone_since_s=now_s if since_s is None else since_s)
            return
        back = self._facts.gone_since_s is not None
        self._facts = replace(self._facts, gone_since_s=None)
        if found != self._place or back:
            self._place = found
            self._teller.tell("replaced", "the repository has come back; watching it")
            self._close_tree()
            self._follow()
            self._notices.lost()

    def _read_registry(self) -> None:
        """What the versions have seen: made by us, or by hand."""
        state = watch_changes.state(self._registry)
        if state == self._state:
            return
        self._state = state
        self._known = watch_changes.known(self._registry)
        self._compare()

    def _compare(self) -> None:
        known = self._known | self._memory.seen
        ago_s = time.time() - max(self._memory.ended_s, watch_changes.newest_s(self._registry))
        self._facts = replace(
            self._facts,
            adapted=bool(known),
            changes=watch_changes.compare(self._texts, known),
            ended_s=self._facts.now_s - ago_s,
            failures=self._memory.failures,
        )

    def _follow(self) -> None:
        """Follow the folders that there are now."""
        began_s = time.monotonic()
        self._folders_due_s = float("inf")
        try:
            folders = folders_of(list_repository(self._root))
        except DataError:
            if self._tree is None and self._facts.gone_since_s is None and self._state is None:
                raise
            # It is going, or coming, at this moment.
            self._folders_due_s = began_s + FOLDERS_QUIET_S
            return
        self._list_took_s = time.monotonic() - began_s
        if self._tree is None:
            self._tree = watch_tree.open_tree(self._root, folders, self._notices)
            self._teller.tell(
                "watching", f"watching {str(self._root)!r}: {self._tree.how}", folders=len(folders)
            )
            return
        try:
            self._tree.follow(folders)
        except WatchesRanOut:
            self._close_tree()
            self._follow()

    def _close_tree(self) -> None:
        if self._tree is not None:
            self._tree.close()
            self._tree = None

    # --- what to do -------------------------------------------------------------------------

    def _decided(self) -> Decision:
        """What to do; what costs something is asked only when all else says to adapt."""
        facts = self._facts
        decision = self._decide(facts)
        if decision.action == "adapt" and not self._now:
            facts = replace(facts, machine=self._machine())
            decision = self._decide(facts)
        if decision.action == "adapt":
            decision = self._decide(replace(facts, in_use=self._in_use()))
        return decision

    def _decide(self, facts: Facts) -> Decision:
        return watch_decision.decide(facts, self._settings, now_asked=self._now)

    def _machine(self) -> Machine:
        if not self._once:
            return self._others.machine(self._settings.idle_s)
        busy = waiting.busy_cores(ONCE_LOOK_S) > self._settings.idle_cores
        busy_with = "other programs use the processor" if busy else ""
        return Machine(idle_s=float("inf"), busy_with=busy_with, on_battery=on_battery())

    def _in_use(self) -> bool:
        if not self._registry.lock_file.exists():
            return False
        try:
            with exclusive(self._registry.lock_file, what="the repository"):
                return False
        except BusyError:
            return True

    # --- looking ----------------------------------------------------------------------------

    def _look(self) -> None:
        self._teller.works()
        self._look_said.clear()
        self._facts = replace(self._facts, looked_s=time.monotonic())
        self._looking = Child("flex_trainer.watch_look", [str(self._root)], self._look_said.append)

    def _go_on_looking(self, looking: Child) -> int | None:
        code = looking.poll()
        if code is None:
            return None
        self._looking = None
        looked_s = self._facts.looked_s or 0.0
        self._facts = replace(self._facts, look_took_s=time.monotonic() - looked_s)
        if code == 0:
            self._texts = parse(looking.output)
            self._compare()
            assert self._facts.changes is not None  # Just made.
            text = watch_decision.described(self._facts.changes)
            changes = self._facts.changes
            self._teller.tell(
                "looked", text, files=changes.files, languages=changes.by_language,
                share=round(changes.share, 6), documents=len(self._texts),
            )  # fmt: skip
        else:
            why = "".join(self._look_said).strip() or f"exit code {code}"
            self._teller.tell("failed", f"the repository cannot be looked at: {why}")
            if self._once:
                return EXIT_FAILED
        self._others.begin()
        return None

    # --- adapting ---------------------------------------------------------------------------

    def _adapt(self, decision: Decision) -> None:
        self._teller.works()
        self._begin(resume=self._asked_file.exists(), reason=decision.reason)

    def _begin(self, *, resume: bool, reason: str) -> None:
        what = "going on with the run that was interrupted" if resume else "adapting"
        self._now, self._begun_with, self._resumed = False, self._texts, resume
        self._adapting = Adapting(self._root, resume=resume, heard=self._teller.progress)
        pid = self._adapting.child.pid
        self._teller.tell("adapting", f"{what}: {reason}", resumed=resume, process=pid)

    def _go_on_adapting(self, run: Adapting) -> int | None:
        if self._interrupts:
            return self._stop(run)
        outcome = run.poll()
        if outcome is None:
            return None
        self._adapting = None
        if outcome.ending == "failed" and self._resumed and not self._in_use():
            # The repository has changed since, for one.
            self._teller.tell("note", outcome.message)
            self._begin(resume=False, reason="anew")
            return None
        self._learn(outcome)
        if self._once:
            return EXITS[outcome.ending]
        return None

    def _stop(self, run: Adapting) -> int:
        """Pass each Ctrl-C on; the run stops after its step, and at the second one at once."""
        passed_on = 0
        while run.poll() is None:
            if passed_on < self._interrupts:
                passed_on += 1
                run.child.interrupt()
            self._woken.wait(TICK_S)
            self._woken.clear()
        text = "stopped; a run that has not ended goes on with `flex-assist adapt --resume`"
        self._teller.tell("interrupted", text)
        return EXIT_INTERRUPTED

    def _learn(self, outcome: Outcome) -> None:
        """Remember how a run ended, and count anew from what it has seen."""
        failed = outcome.ending in ("failed", "interrupted")
        self._memory = Memory(
            seen=self._memory.seen if failed else frozenset(t.sha256 for t in self._begun_with),
            ended_s=time.time(),
            failures=self._memory.failures + 1 if failed else 0,
        )
        watch_changes.remember(self._memory, self._memory_file)
        self._state = None
        self._read_registry()
        self._others.begin()
        told = ", ".join(f"{name}: {found}" for name, found in outcome.adapters.items())
        text = f"{outcome.ending}: {outcome.message if failed else told}"
        self._teller.tell(outcome.ending, text, languages=outcome.adapters)
