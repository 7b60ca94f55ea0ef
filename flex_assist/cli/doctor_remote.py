"""What ``flex-assist doctor`` says of the servers that repositories opted in to.

It asks them for their lists and for the tokens of a fixed text; no code is sent.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path

from flex_assist import config
from flex_assist.engine.choice import open_engine
from flex_assist.engine.protocol import Weights
from flex_assist.errors import FlexAssistError
from flex_assist.locations import Locations
from flex_assist.models import store


def servers(locations: Locations) -> Iterator[tuple[str, str, str]]:
    """Of each repository that opted in: its name, what was found, and what to do if that is bad."""
    try:
        roots = list(config.remotes(locations))
    except FlexAssistError:
        # The settings have a check of their own.
        return
    for root in roots:
        try:
            yield root.name, asyncio.run(_look(locations, root)), ""
        except FlexAssistError as error:
            yield root.name, "failed", str(error)


async def _look(locations: Locations, root: Path) -> str:
    from flex_assist.engine.remote.engine import RemoteEngine

    settings = config.load(locations, root)
    engine = open_engine(locations, settings)
    assert isinstance(engine, RemoteEngine)
    try:
        model = store.serving_path(settings.model.base, locations)
        found = await engine.check(Weights(model=model))
        return f"{settings.remote.host}: {found}"
    finally:
        await engine.close()
