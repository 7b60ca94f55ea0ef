"""Which engine answers: the one place that decides whether anything leaves the machine."""

import importlib.util

from flex_assist.config import Settings
from flex_assist.engine.client import HostEngine
from flex_assist.engine.protocol import Engine
from flex_assist.errors import MissingExtraError
from flex_assist.locations import Locations


def open_engine(locations: Locations, settings: Settings) -> Engine:
    """The engine for the repository whose settings these are.

    This machine's engine host, unless the user's own file opted this repository in to a server.

    Raises:
        MissingExtraError: A server is wanted, and what speaks to one is not installed.
    """
    host = HostEngine(locations, settings.engine)
    if not settings.remote.url:
        return host
    if importlib.util.find_spec("httpx2") is None:
        raise MissingExtraError("completing on a server", "remote")
    # Imported here: who opted in to nothing loads nothing that could connect anywhere.
    from flex_assist.engine.remote.engine import RemoteEngine

    return RemoteEngine(settings.remote, host)
