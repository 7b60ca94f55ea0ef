"""What a completion was made of: the answer to "why this?" and "why nothing?"."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    # Only named here: retrieval needs numpy, and front ends start without it.
    from flex_assist.prompt.builder import Prompt
    from flex_assist.prompt.retrieval import Chunk

EndedBy = Literal["end", "text", "length"]
ENDINGS: dict[str, str] = {
    "end": "the model ended it",
    "text": "stopped there, since nothing that follows would be shown",
    "length": "at the limit of tokens",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A prompt, and the pieces of other files that were found for it, in its order.

    Attributes:
        masked: Whether a secret near the cursor was left out of it.
    """

    prompt: "Prompt"
    chunks: "tuple[Chunk, ...]"
    masked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of the prompt, in its order: retrieval, suffix, start, path, prefix."""

    name: str
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundChunk:
    """A piece of another file that was found for the cursor.

    Attributes:
        path: Relative to the repository's root.
        first_line, last_line: Both included, from 1.
        score: How well it fits (BM25); 0 where it was not chosen by its words.
        why: ``alike``, ``imported``, ``edited`` or ``defines NAME``.
        tokens: Of the prompt; 0 where it did not fit the budget.
    """

    path: str
    first_line: int
    last_line: int
    score: float
    why: str
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """How an answer of the model came about.

    Attributes:
        written: Characters that the model wrote, before the filters.
        ended_by: Why it stopped, as ``protocol.Finished.reason``.
        nothing: Why nothing is shown; empty where something is.
        masked: Whether a secret near the cursor was left out of the prompt.
    """

    parts: tuple[Part, ...]
    chunks: tuple[FoundChunk, ...]
    written: int
    ended_by: EndedBy
    nothing: str = ""
    masked: bool = False


def explanation(
    asked: Asked | None,
    *,
    written: str,
    ended_by: EndedBy,
    shown: str,
    notes: Sequence[str],
) -> Explanation | None:
    """Put together what the stages of a completion know; None where no prompt is known.

    Args:
        written: The model's text.
        shown: What the filters left of it, and ``notes`` what they did.
    """
    if asked is None:
        return None
    found = zip(asked.chunks, asked.prompt.chunk_tokens, strict=True)
    return Explanation(
        parts=tuple(Part(name=name, tokens=tokens) for name, tokens in asked.prompt.parts),
        chunks=tuple(_found(chunk, tokens) for chunk, tokens in found),
        written=len(written),
        ended_by=ended_by,
        nothing="" if shown else _nothing(written, notes),
        masked=asked.masked,
    )


def _found(chunk: "Chunk", tokens: int) -> FoundChunk:
    return FoundChunk(
        path=chunk.path,
        first_line=chunk.first_line,
        last_line=chunk.first_line + chunk.text.count("\n"),
        score=chunk.score,
        why=chunk.why,
        tokens=tokens,
    )


def _nothing(written: str, notes: Sequence[str]) -> str:
    if not written:
        return "the model has nothing to add here"
    if not written.strip():
        return "the model wrote white space only"
    return f"the filters left nothing of what the model wrote: {', '.join(notes)}"
