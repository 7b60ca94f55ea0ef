"""An explanation for people, and as plain data."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from flex_assist.complete.explanation import ENDINGS, Explanation, FoundChunk
from flex_assist.complete.request import Completion
from flex_assist.engine.protocol import Form

SOURCES = {
    "model": "computed for this request",
    "cache": "known from an earlier request: no model call; what follows is of that one",
    "ahead": "computed ahead, while the one before was shown; what follows is of that computing",
}
FORMS: dict[Form, str] = {
    "base": "",
    "adapter": ", over the base",
    "merged": ", merged into one file",
    "remote": ", on a server",
}


def as_data(completion: Completion) -> dict[str, Any] | None:
    """The explanation as JSON has it; None where no model was asked."""
    return asdict(completion.explanation) if completion.explanation is not None else None


def lines(completion: Completion) -> list[str]:
    """Why a completion is what it is, without its text."""
    return list(_lines(completion))


def _lines(completion: Completion) -> Iterator[str]:
    made = completion.explanation
    if made is not None and made.nothing and not completion.text:
        yield f"nothing shown: {made.nothing}"
    language = completion.language or "no language that is known"
    yield f"adapter: {completion.adapter}{FORMS[completion.form]}; {completion.reason} ({language})"
    yield SOURCES[completion.source]
    if made is not None:
        yield from _prompt(completion, made)
    yield "filters: " + ("; ".join(completion.notes) if completion.notes else "none did anything")
    times = (f"{name} {time:.1f}" for name, time in completion.timings_ms.items())
    yield f"milliseconds: {', '.join(times)}"


def _prompt(completion: Completion, made: Explanation) -> Iterator[str]:
    parts = ", ".join(f"{part.name} {part.tokens}" for part in made.parts)
    # What was known is of a call whose figures are not kept.
    called = completion.source == "model"
    reused = f"; {completion.reused_tokens} of them were computed before" if called else ""
    yield f"prompt: {sum(part.tokens for part in made.parts)} tokens ({parts}){reused}"
    if not any(part.name == "suffix" for part in made.parts):
        yield "  the text after the cursor is not used: no adapter has taught the model infilling"
    if made.masked:
        yield "  a secret near the cursor was masked"
    for chunk in made.chunks:
        yield f"  {_chunk(chunk)}"
    written = f"{completion.completion_tokens} tokens, " if called else ""
    yield f"written: {written}{made.written} characters; {ENDINGS[made.ended_by]}"


def _chunk(chunk: FoundChunk) -> str:
    score = f", score {chunk.score:.1f}" if chunk.score else ""
    size = f"{chunk.tokens} tokens" if chunk.tokens else "did not fit"
    return f"{chunk.path}:{chunk.first_line}-{chunk.last_line} ({chunk.why}{score}, {size})"
