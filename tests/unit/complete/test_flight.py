"""A call goes on while what is typed agrees with it, and no longer."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path

import pytest

from flex_assist.adapters.router import Route
from flex_assist.complete.flight import Flight
from flex_assist.complete.question import Question
from flex_assist.complete.request import Completion, CompletionRequest
from flex_assist.complete.surroundings import Surroundings
from flex_assist.complete.writing import Writing
from flex_assist.engine.protocol import Finished, Piece, Weights
from flex_assist.errors import EngineError

ASKED = Question(
    request=CompletionRequest(before="x = ", after="\n"),
    around=Surroundings(before="x = ", after="\n"), language=None,
    route=Route(name="base", reason="r"), weights=Weights(model=Path("/m")), path=None, stops=(),
    crlf=False, place=None, started=0,
)  # fmt: skip
ANSWER = Completion(text="call()", language=None, adapter="base", reason="r")


class Model:
    """Writes one letter each time it is let."""

    def __init__(self) -> None:
        self.letters: asyncio.Queue[str] = asyncio.Queue()
        self.fault: Exception | None = None
        self.flight = Flight(ASKED, self.work, grace_s=0.03)

    async def work(self, flight: Flight) -> Completion:
        flight.writing = Writing(self._stream(), 1)
        await flight.writing.run(lambda text: False)
        if self.fault is not None:
            raise self.fault
        return ANSWER

    async def _stream(self) -> AsyncGenerator[Piece | Finished, None]:
        while letter := await self.letters.get():
            yield Piece(text=letter)

    def write(self, text: str, end: bool = False) -> None:
        for letter in [*text, *([""] if end else [])]:
            self.letters.put_nowait(letter)

    async def stopped(self) -> bool:
        await asyncio.wait([self.flight._task], timeout=0.2)
        return self.flight._task.cancelled()


@pytest.fixture
async def model() -> Model:
    return Model()


def typed(text: str) -> Question:
    return ASKED.behind(text)


async def test_who_types_what_is_written_joins(model: Model) -> None:
    first = asyncio.ensure_future(model.flight.join())
    await asyncio.sleep(0.01)
    first.cancel()
    second = asyncio.ensure_future(model.flight.leads_to(typed("ca")))
    # Longer than it goes on for nobody.
    await asyncio.sleep(0.05)
    model.write("c")
    await asyncio.sleep(0.02)
    assert not second.done()
    model.write("all()", end=True)
    assert await second
    assert await model.flight.join() == ANSWER


@pytest.mark.parametrize(("written", "text"), [("c", "x"), ("call", "cal("), ("", "c")])
async def test_who_types_something_else_does_not_wait(
    model: Model, written: str, text: str
) -> None:
    waiting = asyncio.ensure_future(model.flight.leads_to(typed(text)))
    model.write(written)
    await asyncio.sleep(0.03)
    if written:
        assert not await waiting
    else:
        # Nothing is written yet: it may be just this.
        assert not waiting.done()
        waiting.cancel()
    assert await model.stopped()


@pytest.mark.parametrize(
    "other",
    [
        replace(ASKED, around=Surroundings(before="x = ", after="")),
        replace(ASKED, around=Surroundings(before="y = ", after="\n")),
        replace(ASKED, around=Surroundings(before="x =", after="\n")),
        replace(ASKED, place="another adapter's"),  # type: ignore[arg-type]
    ],
)
async def test_another_place_does_not_join(model: Model, other: Question) -> None:
    assert not await model.flight.leads_to(other)
    model.flight.give_up()
    assert await model.stopped()


async def test_nobody_takes_it_away_from_who_waits(model: Model) -> None:
    waiting = asyncio.ensure_future(model.flight.join())
    await asyncio.sleep(0.01)
    model.flight.give_up()
    model.write("call()", end=True)
    assert await waiting == ANSWER
    assert not await model.flight.leads_to(ASKED)


async def test_an_error_is_told_to_who_waits(model: Model) -> None:
    model.fault = EngineError("gone")
    waiting = asyncio.ensure_future(model.flight.leads_to(typed("c")))
    first = asyncio.ensure_future(model.flight.join())
    await asyncio.sleep(0.01)
    model.write("c", end=True)
    with pytest.raises(EngineError, match="gone"):
        await first
    assert not await waiting
