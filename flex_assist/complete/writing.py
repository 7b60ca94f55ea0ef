"""One answer as the model writes it: it can be looked at, left, and gone on with."""

import time
from collections.abc import AsyncGenerator, Callable

from flex_assist.complete.explanation import Asked
from flex_assist.engine.protocol import Finished, Piece

Check = Callable[[str], bool]


class Writing:
    """Text that a model writes.

    Args:
        stream: Of ``protocol.Engine.generate``. Closing it is what tells the engine to stop.
        prompt_tokens: What it was asked with.
        asked: What the prompt is made of, for the explanation.
    """

    def __init__(
        self,
        stream: AsyncGenerator[Piece | Finished, None],
        prompt_tokens: int,
        asked: Asked | None = None,
    ) -> None:
        self.asked = asked
        self._stream = stream
        self._prompt_tokens = prompt_tokens
        self._started = time.perf_counter()
        self._first: float | None = None
        self._pieces = 0
        self._last = Piece(text="")
        self._finished: Finished | None = None
        self.text = ""

    async def run(self, done: Check, due: Check | None = None) -> bool:
        """Let the model write until ``done`` says that nothing that may come will be shown.

        Args:
            due: Says when to leave it for now.

        Returns:
            Whether it has ended; otherwise ``run`` goes on, and ``close`` must be called.
        """
        async for item in self._stream:
            if isinstance(item, Finished):
                self.text, self._finished = item.text, item
                break
            self.text += item.text
            self._last = item
            self._pieces += 1
            self._first = self._first or time.perf_counter()
            if done(self.text):
                break
            if due is not None and due(self.text):
                return False
        await self.close()
        return True

    @property
    def written_ms(self) -> float:
        """Since its first token; 0 before there is one."""
        return (time.perf_counter() - self._first) * 1000 if self._first is not None else 0.0

    async def close(self) -> None:
        """Stop the model, if it still writes."""
        await self._stream.aclose()

    def account(self) -> Finished:
        """What it took: the engine's own account, or what was seen from here if it was stopped."""
        if self._finished is not None:
            return self._finished
        now = time.perf_counter()
        return Finished(
            text=self.text,
            reason="text",
            prompt_tokens=self._prompt_tokens,
            reused_tokens=self._last.reused_tokens,
            completion_tokens=self._pieces,
            queue_ms=0.0,
            prefill_ms=((self._first or now) - self._started) * 1000,
            decode_ms=(now - (self._first or now)) * 1000,
            form=self._last.form,
            served=self._last.served,
            warning=self._last.warning,
        )
