"""When the next suggestion is computed ahead, and when it is not worth the heat."""

import asyncio
from collections.abc import Callable

import pytest

from flex_assist.complete import ahead
from flex_assist.complete.ahead import Ahead
from flex_assist.errors import Cancelled


class Work:
    """Notes what was begun, ended and given up."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.gate = asyncio.Event()
        self.fault: Exception | None = None

    async def __call__(self) -> None:
        self.notes.append("begun")
        try:
            await self.gate.wait()
            if self.fault is not None:
                raise self.fault
        except asyncio.CancelledError:
            self.notes.append("given up")
            raise
        self.notes.append("done")


async def settle(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(2):
        while not done():
            await asyncio.sleep(0.001)


async def run(one: Ahead, key: str, *, guess: bool = True) -> bool:
    """Whether work for a key was done."""
    work = Work()
    work.gate.set()
    one.begin(key, work, guess=guess)
    for _ in range(5):
        await asyncio.sleep(0)
    return work.notes == ["begun", "done"]


async def test_it_waits_for_somebody_to_look() -> None:
    one, work = Ahead(0.5, delay_s=0.01), Work()
    one.begin("a", work)
    await asyncio.sleep(0)
    assert work.notes == []
    await settle(lambda: work.notes == ["begun"])
    work.gate.set()
    await settle(lambda: work.notes == ["begun", "done"])


async def test_another_suggestion_takes_its_place_and_the_same_does_not() -> None:
    one, first, second = Ahead(0.5, delay_s=0), Work(), Work()
    one.begin("a", first)
    await settle(lambda: first.notes == ["begun"])
    one.begin("a", second)
    await asyncio.sleep(0.005)
    assert (first.notes, second.notes) == (["begun"], [])
    one.begin("b", second)
    await settle(lambda: second.notes == ["begun"])
    assert first.notes == ["begun", "given up"]
    one.stop()
    await settle(lambda: second.notes == ["begun", "given up"])
    one.stop()


async def test_a_fault_is_nobodys() -> None:
    one, work = Ahead(0.5, delay_s=0), Work()
    work.fault = Cancelled("somebody needs the context")
    work.gate.set()
    one.begin("a", work)
    await settle(lambda: work.notes == ["begun"])
    assert await run(one, "b")


async def test_it_rests_while_few_answers_are_used() -> None:
    one = Ahead(1, delay_s=0)
    done = [await run(one, f"unused {number}") for number in range(ahead.WATCHED + 12)]
    assert all(done[: ahead.WATCHED])
    assert sum(done[ahead.WATCHED :]) == 12 // ahead.TRIED_ONE_OF
    # Those that are tried now and then show that it pays again.
    for _ in range(4):
        one.used()
    assert all([await run(one, f"again {number}") for number in range(4)])


async def test_more_of_what_is_looked_at_is_no_guess() -> None:
    one = Ahead(0.5, delay_s=0)
    assert all([await run(one, f"rest {number}", guess=False) for number in range(ahead.WATCHED)])
    # So none of them was counted as unused.
    assert all([await run(one, f"unused {number}") for number in range(ahead.WATCHED)])
    assert not await run(one, "a guess too many")
    assert await run(one, "rest", guess=False)


async def test_it_computes_a_share_of_the_time_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(ahead.time, "monotonic", lambda: now[0])
    one = Ahead(0.1, delay_s=0)

    async def takes_two_seconds() -> None:
        now[0] += 2

    for key in "ab":
        one.begin(key, takes_two_seconds)
        for _ in range(5):
            await asyncio.sleep(0)
    assert now[0] == 104
    assert not await run(one, "c")
    now[0] += 8
    assert await run(one, "d")
