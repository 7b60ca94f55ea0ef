"""Newest wins, and every caller hears what became of its work."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from flex_lsp.scheduling import Newest, Superseded

KEY = ("untitled:1", "inline")


def work(log: list[str], name: str, last_s: float = 0.0) -> Callable[[], Awaitable[str]]:
    async def run() -> str:
        log.append(f"begin {name}")
        try:
            await asyncio.sleep(last_s)
        except asyncio.CancelledError:
            log.append(f"cancel {name}")
            raise
        return name

    return run


async def test_the_newer_request_stops_the_older() -> None:
    log: list[str] = []
    newest = Newest()
    old = asyncio.create_task(newest.run(KEY, 0, work(log, "old", 60)))
    await asyncio.sleep(0.005)
    assert await newest.run(KEY, 0, work(log, "new")) == "new"
    with pytest.raises(Superseded):
        await old
    assert log == ["begin old", "cancel old", "begin new"] or log == [
        "begin old", "begin new", "cancel old",
    ]  # fmt: skip


async def test_of_a_burst_only_the_last_begins() -> None:
    log: list[str] = []
    newest = Newest()
    asked = [newest.run(KEY, 0.005, work(log, str(number))) for number in range(5)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(answer) for answer in answers] == [Superseded] * 4 + [str]
    assert log == ["begin 4"]


async def test_other_keys_go_on() -> None:
    log: list[str] = []
    newest = Newest()
    other = ("untitled:1", "menu")
    both = asyncio.gather(
        newest.run(KEY, 0, work(log, "a", 0.005)), newest.run(other, 0, work(log, "b", 0.005))
    )
    assert await both == ["a", "b"]


async def test_a_change_of_the_document_stops_all_its_surfaces() -> None:
    log: list[str] = []
    newest = Newest()
    keys = [KEY, ("untitled:1", "menu"), ("untitled:2", "inline")]
    tasks = [asyncio.create_task(newest.run(key, 0, work(log, key[1], 0.02))) for key in keys]
    await asyncio.sleep(0.005)
    newest.supersede("untitled:1")
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(answer) for answer in answers] == [Superseded, Superseded, str]


async def test_a_withdrawn_request_stops_its_work() -> None:
    log: list[str] = []
    task = asyncio.create_task(Newest().run(KEY, 0, work(log, "a", 60)))
    await asyncio.sleep(0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)
    assert log == ["begin a", "cancel a"]


async def test_a_failure_is_the_callers() -> None:
    async def fail() -> str:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await Newest().run(KEY, 0, fail)
