"""The engine host: one process per user that holds the models for all front ends.

Started by ``client.HostEngine`` when somebody needs it (``python -m flex_assist.engine.host``),
gone after an idle time. Light until the first request for a model.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from flex_assist import __version__
from flex_assist.config import EngineSettings
from flex_assist.engine import giving_way
from flex_assist.engine.connection import Activity, Connection, Service, refuse
from flex_assist.engine.local import LocalEngine
from flex_assist.engine.rendezvous import FileLock, Rendezvous, open_log, rendezvous
from flex_assist.errors import EngineError
from flex_assist.locations import Locations, locate
from flex_assist.processes import give_memory_back

_log = logging.getLogger(__name__)

# How often the host looks whether it is idle, or cannot be found any more.
LOOK_EVERY_S: Final = 5.0
_RETIRED_LOOK_EVERY_S: Final = 0.05
CLOSE_TIMEOUT_S: Final = 5.0
MAX_CONNECTIONS: Final = 64


class Host:
    """Listens, and ends when told to, when idle, or when another took its place."""

    def __init__(
        self, place: Rendezvous, lock: FileLock, settings: EngineSettings, locations: Locations
    ) -> None:
        self._place = place
        self._lock = lock
        self._settings = settings
        self._engine = LocalEngine(settings, locations.speeds, locations.prefixes)
        self._activity = Activity(begins=self._busy)
        self._loaded = False
        self._started_s = time.monotonic()
        self._stopping = asyncio.Event()
        self._retired = asyncio.Event()
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._service: Service | None = None
        self._identity: tuple[int, int, str] | None = None

    async def run(self) -> None:
        """Serve until the end. The lock must be held."""
        self._server = await self._place.listen(self._connected)
        self._identity = self._place.identity()
        self._service = Service(
            engine=self._engine,
            token=self._place.token(),
            activity=self._activity,
            describe=self._describe,
            stop=self._stopping.set,
            retire=self._retire,
        )
        self._listen_to_signals()
        tasks = [asyncio.create_task(each) for each in (self._watch(), self._renew())]
        _log.info("engine host %s serves at %s", __version__, self._place.socket)
        await self._stopping.wait()
        for task in tasks:
            task.cancel()
        self._retire()
        for connection in list(self._connections):
            connection.say_goodbye()
        await self._close_engine()
        _log.info("engine host ends")

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Nobody knows the token before it is written and the service stands.
        if self._service is None:
            writer.close()
            return
        if len(self._connections) >= MAX_CONNECTIONS:
            await refuse(reader, writer)
            return
        connection = Connection(self._service, reader, writer)
        self._connections.add(connection)
        try:
            await connection.serve()
        finally:
            self._connections.discard(connection)

    def _describe(self) -> dict[str, Any]:
        return {
            "process": os.getpid(),
            "version": __version__,
            "uptime_s": round(time.monotonic() - self._started_s, 3),
            "idle_exit_s": self._settings.idle_exit_s,
            "idle_unload_s": self._settings.idle_unload_s,
            "context_tokens": self._settings.context_tokens,
            "threads": self._settings.threads,
            "connections": len(self._connections),
            "requests": self._activity.requests,
            "idle_s": round(self._activity.idle_s, 3),
        }

    def _retire(self) -> None:
        """Stop listening and let another host begin; open requests go on."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        self._retired.set()
        if self._place.identity() == self._identity:
            self._place.withdraw()
        self._lock.release()

    def _busy(self) -> None:
        self._loaded = True
        giving_way.renew(self._place.busy_file)

    async def _renew(self) -> None:
        """Training on this machine waits while somebody waits for an answer."""
        while True:
            if self._activity.requests:
                giving_way.renew(self._place.busy_file)
            await asyncio.sleep(giving_way.RENEW_EVERY_S)

    async def _free_idle_models(self, idle_s: float) -> None:
        if self._loaded and idle_s >= self._settings.idle_unload_s:
            self._loaded = False
            await self._engine.unload()
            give_memory_back()
            _log.info("nothing was asked for %.0f s; the models are freed", idle_s)

    async def _watch(self) -> None:
        pause_s = min(LOOK_EVERY_S, self._settings.idle_exit_s / 4, self._settings.idle_unload_s)
        while True:
            idle_s = self._activity.idle_s
            await self._free_idle_models(idle_s)
            if self._server is not None and self._place.identity() != self._identity:
                _log.warning("the socket is gone; this host retires")
                self._retire()
            if idle_s >= self._settings.idle_exit_s or (self._server is None and idle_s > 0):
                self._stopping.set()
            if self._server is None:
                await asyncio.sleep(_RETIRED_LOOK_EVERY_S)
                continue
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._retired.wait(), pause_s)

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            try:
                loop.add_signal_handler(number, self._stopping.set)
            except NotImplementedError:  # Windows
                signal.signal(
                    number, lambda *_: loop.call_soon_threadsafe(self._stopping.set) and None
                )

    async def _close_engine(self) -> None:
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._engine.close()
        except TimeoutError:
            # Native code that does not come back cannot be waited for, nor ended otherwise.
            _log.error("the engine does not stop; the process ends without it")
            os._exit(1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the host; 0 also when another one serves already."""
    parser = argparse.ArgumentParser(prog="python -m flex_assist.engine.host")
    for name in Locations.__slots__:
        parser.add_argument(f"--{name}", type=Path, help="default: the user's own folder")
    parser.add_argument("--settings", default="{}", help="settings of the engine (JSON)")
    options = vars(parser.parse_args(arguments))
    given = {name: options[name] for name in Locations.__slots__ if options[name] is not None}
    complete = len(given) == len(Locations.__slots__)
    locations = Locations(**given) if complete else dataclasses.replace(locate(), **given)
    settings = EngineSettings(**json.loads(options["settings"]))
    log = open_log(locations.engine_log)
    for descriptor in (1, 2):
        os.dup2(log.fileno(), descriptor)
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s"
    )
    place = rendezvous(locations)
    try:
        place.prepare()
        lock = FileLock(place.host_lock)
        if not lock.acquire():
            _log.info("another engine host serves already")
            return 0
        asyncio.run(_run(place, lock, settings, locations))
    except (EngineError, OSError) as error:
        _log.error("%s", error)
        return 1
    return 0


async def _run(
    place: Rendezvous, lock: FileLock, settings: EngineSettings, locations: Locations
) -> None:
    await Host(place, lock, settings, locations).run()


if __name__ == "__main__":
    sys.exit(main())
