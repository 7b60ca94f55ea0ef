"""What else the machine does: whether it is idle, on battery, or asked for completions."""

import asyncio
import os
import time

import psutil

from flex_assist.config import EngineSettings
from flex_assist.engine.client import HostEngine
from flex_assist.errors import FlexAssistError
from flex_assist.locations import Locations
from flex_trainer.watch_decision import Machine

SAMPLE_S = 5.0
# Asking the engine host costs a connection.
ASK_ENGINE_S = 30.0
ENGINE_ANSWERS_S = 5.0


class Others:
    """Watches how busy the machine is with other things than this process."""

    def __init__(self, idle_cores: float, engine: EngineSettings, locations: Locations) -> None:
        self._idle_cores, self._engine, self._locations = idle_cores, engine, locations
        self._asked_s, self._completed_s = float("-inf"), float("-inf")
        self.begin()

    def begin(self) -> None:
        """Start anew, as after a run of our own."""
        psutil.cpu_percent(interval=None)
        self._own_s, self._sampled_s = _own_seconds(), time.monotonic()
        self._idle_since_s, self._busy = self._sampled_s, False

    def sample(self) -> None:
        """Look at the load since the last sample. Cheap; call it often."""
        now_s = time.monotonic()
        if now_s - self._sampled_s < SAMPLE_S:
            return
        own = (_own_seconds() - self._own_s) / (now_s - self._sampled_s)
        cores = psutil.cpu_percent(interval=None) / 100 * (psutil.cpu_count() or 1)
        self._own_s, self._sampled_s = _own_seconds(), now_s
        self._busy = cores - own > self._idle_cores
        if self._busy:
            self._idle_since_s = now_s

    def machine(self, idle_s: float) -> Machine:
        """What is known now.

        Args:
            idle_s: A completion within so many seconds counts as business.
        """
        now_s = time.monotonic()
        if now_s - self._asked_s > ASK_ENGINE_S:
            self._asked_s = now_s
            self._completed_s = now_s - completions_ended_s(self._engine, self._locations)
        busy_with = "other programs use the processor" if self._busy else ""
        if not busy_with and now_s - self._completed_s < idle_s:
            busy_with = "completions were asked for a short while ago"
        return Machine(
            idle_s=now_s - self._idle_since_s, busy_with=busy_with, on_battery=on_battery()
        )


def on_battery() -> bool:
    """Whether the machine runs on battery; False where that is not known."""
    # Some platforms lack the function, and a machine without a battery has nothing to tell.
    battery = psutil.sensors_battery() if hasattr(psutil, "sensors_battery") else None
    return battery is not None and battery.power_plugged is False


def completions_ended_s(settings: EngineSettings, locations: Locations) -> float:
    """Seconds since the engine host last worked; infinite where none runs."""

    async def ask() -> float:
        engine = HostEngine(locations, settings)
        try:
            async with asyncio.timeout(ENGINE_ANSWERS_S):
                status = await engine.host_status()
        finally:
            await engine.close()
        idle_s = (status or {}).get("idle_s")
        return float(idle_s) if isinstance(idle_s, int | float) else float("inf")

    try:
        return asyncio.run(ask())
    except (FlexAssistError, OSError, TimeoutError):
        return float("inf")


def _own_seconds() -> float:
    """Processor time of this process, and of those it has started that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
