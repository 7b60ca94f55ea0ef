"""Work that waits until nobody asks."""

import asyncio

from flex_assist.engine.quiet import Quiet


async def test_it_waits_until_nothing_was_asked_for_a_while() -> None:
    done: list[float] = []
    now = asyncio.get_running_loop().time
    quiet = Quiet(0.3, lambda: False)
    began_s = now()
    quiet.then(lambda: done.append(now()))
    for _ in range(4):
        await asyncio.sleep(0.1)
        quiet.asked()
    last_s = now()
    assert (done, quiet.waiting) == ([], 1)
    while not done:
        await asyncio.sleep(0.01)
    assert done[0] - began_s >= 0.7
    assert done[0] - last_s >= 0.25
    await asyncio.sleep(0)
    assert quiet.waiting == 0


async def test_it_waits_while_something_is_being_done() -> None:
    busy, done = [True], asyncio.Event()
    quiet = Quiet(0.0, lambda: bool(busy))
    quiet.then(done.set)
    await asyncio.sleep(0.15)
    assert not done.is_set()
    busy.clear()
    async with asyncio.timeout(2):
        await done.wait()


async def test_what_is_closed_is_not_done() -> None:
    done: list[int] = []
    quiet = Quiet(0.02, lambda: False)
    quiet.then(lambda: done.append(1))
    quiet.close()
    await asyncio.sleep(0.1)
    assert done == []
