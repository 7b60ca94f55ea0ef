"""An answer while it is written."""

from collections.abc import AsyncGenerator

import pytest

from flex_assist.complete.writing import Writing
from flex_assist.engine.protocol import Finished, Piece

FINISHED = Finished(
    text="abc", reason="end", prompt_tokens=9, reused_tokens=4, completion_tokens=3,
    queue_ms=1.0, prefill_ms=2.0, decode_ms=3.0, form="merged",
)  # fmt: skip


class Model:
    """Writes a text letter by letter; notes whether it was let finish."""

    def __init__(self) -> None:
        self.closed = False

    async def stream(self) -> AsyncGenerator[Piece | Finished, None]:
        try:
            for letter in "abc":
                yield Piece(text=letter, form="merged", reused_tokens=4)
            yield FINISHED
        finally:
            self.closed = True


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def writing(model: Model) -> Writing:
    return Writing(model.stream(), prompt_tokens=9)


async def test_to_the_end(writing: Writing, model: Model) -> None:
    assert await writing.run(lambda text: False)
    assert (writing.text, writing.account(), model.closed) == ("abc", FINISHED, True)


async def test_until_it_is_enough(writing: Writing, model: Model) -> None:
    """The engine is stopped, and what was seen is its account."""
    assert await writing.run(lambda text: text == "ab", lambda text: text == "ab")
    assert (writing.text, model.closed) == ("ab", True)
    account = writing.account()
    assert (account.prompt_tokens, account.reused_tokens, account.completion_tokens) == (9, 4, 2)
    assert (account.reason, account.form, account.text) == ("text", "merged", "ab")
    assert account.prefill_ms >= 0
    assert account.decode_ms >= 0


async def test_left_and_gone_on_with(writing: Writing, model: Model) -> None:
    assert not await writing.run(lambda text: False, lambda text: text == "a")
    assert (writing.text, writing.account().completion_tokens, model.closed) == ("a", 1, False)
    assert await writing.run(lambda text: False)
    assert (writing.account(), model.closed) == (FINISHED, True)


async def test_left_for_good(writing: Writing, model: Model) -> None:
    await writing.run(lambda text: False, lambda text: True)
    await writing.close()
    assert model.closed
    await writing.close()
