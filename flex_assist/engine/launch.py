"""Starting the engine host as a process of its own, which outlives whoever started it."""

import dataclasses
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from flex_assist.config import EngineSettings
from flex_assist.engine.rendezvous import open_log
from flex_assist.errors import EngineError
from flex_assist.locations import Locations
from flex_assist.processes import SPINS, own_command, waiting_is_set

HOST_MODULE: Final = "flex_assist.engine.host"
KILL_TIMEOUT_S: Final = 10.0
KILL_LOOK_S: Final = 0.02
_LAST_WORDS_BYTES: Final = 2000
# How OpenMP's threads wait for each other. libgomp's own 300,000 rounds are no faster where nothing
# else runs; where something does, each of hundreds of waits in a token costs milliseconds. Two
# threads beside two busy ones: 2,940 ms a token, with this 47; on a quiet machine 14 either way.
_SPIN_COUNT: Final = "1000"


class HostProcess:
    """A host that was just started."""

    def __init__(self, locations: Locations, settings: EngineSettings) -> None:
        self._log = locations.engine_log
        folders = (
            part
            for name in Locations.__slots__
            for part in (f"--{name}", str(getattr(locations, name).absolute()))
        )
        command = own_command(HOST_MODULE, *folders)
        command += ["--settings", json.dumps(dataclasses.asdict(settings))]
        with open_log(self._log) as log:
            try:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=Path(sys.executable).anchor,
                    env=_waiting(os.environ),
                    **_detached(),
                )
            except OSError as error:
                raise EngineError(f"the engine host cannot be started: {error}") from error
        # Whoever starts a process must take note of its end, or it stays in the table as a zombie.
        threading.Thread(target=self._process.wait, name="engine-host-end", daemon=True).start()

    def ended(self) -> bool:
        """Whether it has ended because another host serves.

        Raises:
            EngineError: It failed.
        """
        code = self._process.poll()
        if code:
            raise EngineError(
                f"the engine host failed to start (code {code}): {self._last_words()}; "
                f"its log is {str(self._log)!r}"
            )
        return code == 0

    def _last_words(self) -> str:
        try:
            with self._log.open("rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - _LAST_WORDS_BYTES))
                lines = file.read().decode("utf-8", "replace").split("\n")
        except OSError:
            return "it left no log"
        return next((line.strip() for line in reversed(lines) if line.strip()), "its log is empty")


def kill_host(number: int | None) -> bool:
    """End the host that is process ``number`` by force, and nothing else.

    Raises:
        EngineError: That is none, or it cannot be ended.
    """
    import psutil

    try:
        process = psutil.Process(number) if number else None
        if process is not None and HOST_MODULE in process.cmdline():
            process.kill()
            deadline_s = time.monotonic() + KILL_TIMEOUT_S
            while time.monotonic() < deadline_s:
                # Who started it may never take note of its end.
                if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                    return True
                time.sleep(KILL_LOOK_S)
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        pass
    raise EngineError(
        f"the engine host does not end; end its process by hand: it runs the module {HOST_MODULE}"
    )


def _waiting(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment with threads that soon sleep while they wait, unless it says how they do."""
    chosen = {} if waiting_is_set(environment) else {SPINS: _SPIN_COUNT}
    return {**environment, **chosen}


def _detached() -> dict[str, Any]:
    if sys.platform == "win32":
        return {"creationflags": subprocess.DETACHED_PROCESS | subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}
