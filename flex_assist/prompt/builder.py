"""From a cursor to token ids.

The layout, slow-changing parts first, so that a keystroke only appends:

    pieces of other files | SUFFIX text after the cursor | PREFIX path, text before the cursor

A base model without infilling tokens gets the same without the suffix. The text before the cursor
is cut into blocks of whole lines, at places that do not depend on the cursor; the window moves by
whole blocks. A block begins with its line break, and after a line that ends in no white space, as
tokenizers join line breaks and the white space around them: so the ids of the blocks, put together,
are the ids of the whole.

Two steps, because tokenizing is the engine's work: ``outline`` says which texts to encode,
``assemble`` fits their ids into the budget.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from flex_assist.config import PromptSettings
from flex_assist.language import Language
from flex_assist.models.fim import FimTokens
from flex_assist.repository.documents import printable_path

if TYPE_CHECKING:
    # Only named here: retrieval needs numpy, and front ends start without it.
    from flex_assist.prompt.retrieval import Chunk

BLOCK_LINES = 8
# No vocabulary in use has tokens of source code longer than this on average.
MAX_BYTES_PER_TOKEN = 8
# A block of lines that long together, in budgets, is cut before it is tokenized.
LONG_LINES = 4
# Of a longer path the end says enough; it has no budget of its own.
MAX_PATH_CHARACTERS = 160


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """Texts whose token ids are wanted. ``answer`` is set in training only."""

    chunks: tuple[str, ...]
    after: str
    header: str
    blocks: tuple[str, ...]
    answer: str = ""

    def texts(self) -> list[str]:
        """All texts, in the order in which ``assemble`` takes their ids."""
        texts = [*self.chunks, self.after, self.header, *self.blocks]
        return [*texts, self.blocks[-1] + self.answer] if self.answer else texts


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """Token ids, and what they are made of.

    Attributes:
        parts: Name and number of tokens of each part, in order, e.g. ``("suffix", 128)``.
        chunk_tokens: Tokens of each of the outline's chunks; 0 where one did not fit.
        answer_tokens: How many of the last tokens hold the answer (training only). Its first
            token may begin in the text before it.
    """

    tokens: tuple[int, ...]
    parts: tuple[tuple[str, int], ...]
    chunk_tokens: tuple[int, ...] = ()
    answer_tokens: int = 0


def comment(language: Language | None, text: str) -> str:
    """``text`` as one comment line of the language."""
    line = " ".join(text.split())
    if language is None:
        return f"# {line}"
    if language.comment_end:
        # A file's name must not end the comment that it stands in.
        line = line.replace(language.comment_end, " ")
        return f"{language.line_comment} {line} {language.comment_end}"
    return f"{language.line_comment} {line}"


def fitted(settings: PromptSettings, room: int) -> PromptSettings:
    """The budgets, each in its proportion smaller where all together are more than ``room``.

    Args:
        room: Tokens that the context has for the prompt. What is not text of a budget, the path
            above all, is taken off here.
    """
    room -= MAX_PATH_CHARACTERS // 2
    names = ("prefix_tokens", "suffix_tokens", "retrieval_tokens")
    budgets = {name: int(getattr(settings, name)) for name in names}
    if sum(budgets.values()) <= room:
        return settings
    share = max(0.0, room / sum(budgets.values()))
    return replace(settings, **{name: int(budget * share) for name, budget in budgets.items()})


def outline(
    before: str,
    after: str,
    *,
    path: str | None,
    language: Language | None,
    chunks: "Sequence[Chunk]",
    settings: PromptSettings,
    answer: str = "",
) -> Outline:
    """Say which texts make the prompt of a cursor, before any budget."""
    return Outline(
        chunks=tuple(_piece(chunk, language) for chunk in chunks),
        after=after[: settings.suffix_tokens * MAX_BYTES_PER_TOKEN],
        header=comment(language, _named(path)) if path else "",
        blocks=_blocks(before, settings.prefix_tokens * MAX_BYTES_PER_TOKEN),
        answer=answer,
    )


def assemble(
    outline: Outline, ids: Sequence[Sequence[int]], fim: FimTokens | None, settings: PromptSettings
) -> Prompt:
    """Put the ids of ``outline.texts()`` together within the budget.

    Args:
        fim: The infilling tokens; None leaves the text after the cursor out.
    """
    count = len(outline.chunks)
    chunks = _first_that_fit(ids[:count], settings.retrieval_tokens)
    suffix, header = list(ids[count][: settings.suffix_tokens]), list(ids[count + 1])
    blocks = ids[count + 2 : count + 2 + len(outline.blocks)]
    prefix, answer = _last_that_fit(blocks, settings.prefix_tokens), 0
    if outline.answer:
        joined = list(ids[-1])
        cut = _cut(len(blocks[-1]), settings.prefix_tokens, settings.prefix_tokens)
        before = prefix[: len(prefix) - (len(blocks[-1]) - cut)]
        answer = len(joined) - _common(joined, blocks[-1])
        prefix = before + joined[cut:]
    parts = [("retrieval", [token for chunk in chunks for token in chunk])]
    if fim is not None:
        parts += [("suffix", [fim.suffix_id, *suffix]), ("start", [fim.prefix_id])]
    parts += [("path", header), ("prefix", prefix)]
    return Prompt(
        tokens=tuple(token for _, part in parts for token in part),
        parts=tuple((name, len(part)) for name, part in parts),
        chunk_tokens=tuple(map(len, chunks)),
        answer_tokens=answer,
    )


def _blocks(before: str, max_characters: int) -> tuple[str, ...]:
    """Cut into blocks that begin with a line break; see ``_start``."""
    lines, room = before.split("\n"), LONG_LINES * max_characters
    blocks: list[str] = []
    size = 0
    end = len(lines)
    while end > 0 and (size <= max_characters or not blocks):
        start = _start(lines, end - 1)
        text = "\n" + "\n".join(lines[start:end])
        # A line can be as long as a file; what is left out would be tokenized for nothing.
        text = text[_cut(len(text), room, room) :]
        blocks.append(text)
        size += len(text)
        end = start
    return tuple(reversed(blocks))


def _start(lines: Sequence[str], last: int) -> int:
    """The first line of the block that has the line ``last``.

    Blocks start at line numbers divisible by their size, or as few lines earlier as it takes to
    follow a line that ends in no white space. Only lines before ``last`` decide.
    """
    nominal = last // BLOCK_LINES * BLOCK_LINES
    for start in range(nominal, max(0, nominal - BLOCK_LINES), -1):
        if lines[start - 1] and not lines[start - 1][-1].isspace():
            return start
    return nominal


def _piece(chunk: "Chunk", language: Language | None) -> str:
    return f"{comment(language, _named(chunk.path))}\n{chunk.text}\n\n"


def _named(path: str) -> str:
    path = printable_path(path)
    return path if len(path) <= MAX_PATH_CHARACTERS else "…" + path[-MAX_PATH_CHARACTERS:]


def _cut(size: int, room: int, budget: int) -> int:
    """How much of a long block is left out: in steps, so that typing seldom moves it."""
    step = max(1, budget // 4)
    return -(-max(0, size - room) // step) * step


def _first_that_fit(parts: Sequence[Sequence[int]], budget: int) -> list[Sequence[int]]:
    """The parts, with nothing in place of those that do not fit what is left."""
    chosen: list[Sequence[int]] = []
    for part in parts:
        fits = sum(map(len, chosen)) + len(part) <= budget
        chosen.append(part if fits else ())
    return chosen


def _last_that_fit(parts: Sequence[Sequence[int]], budget: int) -> list[int]:
    chosen = list(parts[-1][_cut(len(parts[-1]), budget, budget) :])
    for part in reversed(parts[:-1]):
        if len(chosen) + len(part) > budget:
            if len(chosen) < budget // 2:
                # Long lines, and a block just begun: better a part than next to nothing.
                chosen = [*part[_cut(len(part), budget - len(chosen), budget) :], *chosen]
            break
        chosen = [*part, *chosen]
    return chosen


def _common(left: Sequence[int], right: Sequence[int]) -> int:
    pairs = enumerate(zip(left, right, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(left), len(right)))
