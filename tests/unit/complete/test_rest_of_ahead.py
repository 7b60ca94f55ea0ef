"""An answer that was computed ahead is left when there is enough of it, and gone on with when it is
wanted."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from flex_assist.adapters.router import Route
from flex_assist.complete.request import Completion, CompletionRequest
from flex_assist.complete.service import BEGUN, CompletionService
from flex_assist.config import Settings
from flex_assist.engine.protocol import Finished, GenerateRequest, Piece, TextPiece
from flex_assist.locations import below
from flex_assist.models.fim import FimTokens

WRITTEN = "alpha_one, beta_two, gamma_three, delta_four)"
TYPED = "def f(a):\n    x = make("


class Slow:
    """Writes ``WRITTEN`` as far as it is not there yet, and takes its time over what is ahead."""

    async def tokenize(self, model: Path, pieces: Sequence[TextPiece]) -> list[list[int]]:
        return [list(piece.text.encode()) for piece in pieces]

    async def spell(self, model: Path, tokens: Sequence[int], **_: Any) -> list[bytes]:
        return [bytes([token]) for token in tokens]

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Piece | Finished, None]:
        prompt = bytes(request.tokens).decode()
        there = prompt.rpartition("make(")[2] if "make(" in prompt else None
        rest = "x = make(" if there is None else WRITTEN[len(there.rstrip()) :]
        for word in rest.replace(" ", "\0 ").split("\0"):
            await asyncio.sleep(0.06 if request.ahead else 0)
            yield Piece(text=word)
        yield Finished(
            text=rest, reason="end", prompt_tokens=1, reused_tokens=0, completion_tokens=1,
            queue_ms=0, prefill_ms=0, decode_ms=0,
        )  # fmt: skip


async def known(service: CompletionService, request: CompletionRequest) -> Completion:
    async with asyncio.timeout(5):
        while (found := service.recall(request)) is None:
            await asyncio.sleep(0.01)
    return found


async def test_the_rest_is_written_for_whoever_comes_there(tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    model.write_bytes(b"GGUF")
    engine = Slow()
    service = CompletionService(
        engine=engine,  # type: ignore[arg-type]
        settings=Settings(), locations=below(tmp_path / "home"), root=None,
    )  # fmt: skip
    service._model = model
    request = CompletionRequest(
        before="def f(a):\n    ", after="\n", path="a.py", first_answer_ms=100
    )
    shown = await service.complete(request)
    assert shown.text == "x = make("
    there = replace(request, before=TYPED)
    first = await known(service, there)
    assert first.text
    assert WRITTEN.startswith(first.text)
    assert len(first.text) < len(WRITTEN)
    assert "the rest comes with the next key" in " ".join(first.notes)
    # Each key shows what there is by then; what is asked ahead begins behind it.
    text, at = first.text, 1
    async with asyncio.timeout(10):
        while text != WRITTEN:
            typed = replace(there, before=TYPED + WRITTEN[:at])
            found = await known(service, typed)
            text = WRITTEN[:at] + found.text
            assert WRITTEN.startswith(text)
            at = min(at + 1, 8)
            await asyncio.sleep(0.2)
    service._stop_what_nobody_waits_for()


BODY = "def f(a):\n    "
LINES = "first = make(a)\n    second = trim(first)\n    third = fill(second)\n    return third\n"


class Lines(Slow):
    """Writes ``LINES`` behind ``BODY``, word by word, up to a stop text."""

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Piece | Finished, None]:
        prompt = bytes(token for token in request.tokens if token < 256).decode()
        there = prompt.rpartition(BODY)[2]
        rest = LINES[len(there) :] if LINES.startswith(there) else ""
        cut = min((rest.find(stop) for stop in request.stop_texts if stop in rest), default=None)
        rest = rest[:cut]
        for word in rest.replace(" ", "\0 ").split("\0"):
            await asyncio.sleep(0.02)
            yield Piece(text=word)
        yield Finished(
            text=rest, reason="end", prompt_tokens=1, reused_tokens=0, completion_tokens=1,
            queue_ms=0, prefill_ms=0, decode_ms=0,
        )  # fmt: skip


class Infilling:
    """One model with infilling tokens, for everything."""

    def route(self, language: str | None, choice: str = "auto") -> Route:
        fim = FimTokens(prefix_id=1000, suffix_id=1001, middle_id=1002, end_id=1003)
        return Route(name="base", reason="the only one", fim=fim)


async def test_lines_that_were_left_are_gone_on_with_as_lines(tmp_path: Path) -> None:
    """Though the cursor stands in a line by then, where an answer of its own would end with it."""
    model = tmp_path / "model.gguf"
    model.write_bytes(b"GGUF")
    service = CompletionService(
        engine=Lines(),  # type: ignore[arg-type]
        settings=Settings(), locations=below(tmp_path / "home"), root=None, router=Infilling(),
    )  # fmt: skip
    service._model = model
    request = CompletionRequest(before=BODY, after="\n\n\nx = 1\n", path="a.py", first_answer_ms=60)
    shown = await service.complete(request)
    assert shown.text
    assert BEGUN in shown.notes
    whole = LINES.rstrip("\n")
    assert whole.startswith(shown.text)
    assert len(shown.text) < len(whole)
    found, typed = shown, ""
    async with asyncio.timeout(20):
        while typed + found.text != whole or BEGUN in found.notes:
            # At first each look is a key further.
            typed = "fir"[: len(typed) + 1]
            found = await known(service, replace(request, before=BODY + typed))
            assert whole.startswith(typed + found.text)
            await asyncio.sleep(0.05)
    # Whoever takes it as it was shown first gets the rest there.
    accepted = await known(service, replace(request, before=BODY + shown.text))
    assert shown.text + accepted.text == whole
    service._stop_what_nobody_waits_for()
