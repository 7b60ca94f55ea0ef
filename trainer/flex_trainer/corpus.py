"""From documents to samples: the prompts that the server will build, with their answers.

A document is cut into segments; each becomes, in every pass anew, either a plain piece of text or
an infilling sample whose cursor lies in the segment. So a pass sees most lines, about once. Between
them come questions with their answers (``instructions.py``).
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from flex_assist.config import PromptSettings
from flex_assist.evaluate.spans import Span, SpanSource
from flex_assist.language import BY_NAME
from flex_assist.models.fim import FimTokens
from flex_assist.prompt.builder import Outline, assemble, outline
from flex_assist.prompt.retrieval import RepositoryIndex
from flex_assist.repository.documents import Document, printable_path

Encode = Callable[[str], list[int]]
FIM_SHARE = 0.65
RETRIEVAL_SHARE = 0.8
# Some samples see less around the cursor than the server sends: more of them fit into a run, and
# what lies near decides most answers.
PREFIX_SHARES = (0.5, 1.0)
SUFFIX_SHARES = (0.5, 1.0)
# Clients that put a token between prefix and middle find a model that has seen it.
MIDDLE_TOKEN_SHARE = 0.1
PLAIN_TOKENS = 512
SEGMENT_CHARACTERS = 1600
# Most tokens of the line that names the file, of an answer, and of infilling tokens.
PATH_TOKENS, ANSWER_TOKENS, CONTROL_TOKENS = 96, 192, 4
# The answer is what the adapter is for; the text around it is learnt along the way.
ANSWER_WEIGHT = 4.0
UNLABELLED = -100


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Token ids with a label each (-100 for none) and a weight each."""

    tokens: tuple[int, ...]
    labels: tuple[int, ...]
    weights: tuple[float, ...]


def most_tokens(settings: PromptSettings) -> int:
    """No sample is longer: what serving sends at most, and an answer."""
    prompt = settings.retrieval_tokens + settings.suffix_tokens + settings.prefix_tokens
    return max(PLAIN_TOKENS, prompt + PATH_TOKENS + ANSWER_TOKENS + CONTROL_TOKENS)


class Corpus:
    """The samples of one adapter.

    Args:
        documents: The training part.
        encode: Text to ids by the served model's own vocabulary, control tokens as plain text.
        fim: Infilling tokens to teach.
        seed: Of everything drawn here.
        instructions: The questions with their answers of a pass, by its number.
        instruction_share: How many of a pass's tokens are theirs, as far as there are so many.
    """

    def __init__(
        self,
        documents: Sequence[Document],
        encode: Encode,
        fim: FimTokens,
        settings: PromptSettings,
        seed: int,
        *,
        instructions: Callable[[int], Iterator[Sample]] | None = None,
        instruction_share: float = 0.0,
    ) -> None:
        self._documents = sorted(documents, key=lambda document: document.path)
        self._encode, self._fim, self._settings, self._seed = encode, fim, settings, seed
        self._instructions, self._instruction_share = instructions, instruction_share
        self._cache: dict[str, list[int]] = {}
        self._spans = [
            SpanSource(document.text, BY_NAME[document.language]) for document in self._documents
        ]
        self._index = RepositoryIndex(self._documents) if settings.retrieval_tokens else None

    def samples(self, epoch: int) -> Iterator[Sample]:
        """One pass, in random order; the same for the same seed and ``epoch``."""
        if self._instructions is None or self._instruction_share <= 0:
            yield from self._of_documents(epoch)
            return
        share = self._instruction_share / (1 - self._instruction_share)
        yield from _mixed(self._of_documents(epoch), self._instructions(epoch), share)

    def _of_documents(self, epoch: int) -> Iterator[Sample]:
        rng = random.Random(f"{self._seed}:{epoch}")
        segments = [
            (number, start)
            for number, document in enumerate(self._documents)
            for start in range(0, len(document.text), SEGMENT_CHARACTERS)
        ]
        rng.shuffle(segments)
        for number, start in segments:
            own = random.Random(
                f"{self._seed}:{epoch}:{printable_path(self._documents[number].path)}:{start}"
            )
            span = self._spans[number].draw(own, start, start + SEGMENT_CHARACTERS)
            sample = None
            if span is not None and own.random() < FIM_SHARE:
                sample = self._infilling(number, span, own)
            if sample is None or len(sample.tokens) > most_tokens(self._settings):
                sample = self._plain(number, start)
            yield sample

    def _plain(self, number: int, start: int) -> Sample:
        document = self._documents[number]
        text = document.text[start : start + SEGMENT_CHARACTERS + 400]
        header = outline(
            "",
            "",
            path=document.path,
            language=BY_NAME[document.language],
            chunks=(),
            settings=self._settings,
        ).header
        # A path of letters that the vocabulary spells byte by byte must leave room for the text.
        prefix = self._cached(header)[: PLAIN_TOKENS // 2]
        tokens = tuple([*prefix, *self._encode("\n" + text)][:PLAIN_TOKENS])
        labels = (UNLABELLED,) * len(prefix) + tokens[len(prefix) :]
        return Sample(tokens=tokens, labels=labels, weights=(1.0,) * len(tokens))

    def _infilling(self, number: int, span: Span, rng: random.Random) -> Sample:
        document, language = self._documents[number], BY_NAME[self._documents[number].language]
        before, after = document.text[: span.start], document.text[span.end :]
        chunks = []
        if self._index is not None and rng.random() < RETRIEVAL_SHARE:
            chunks = self._index.search(
                before,
                after,
                path=document.path,
                language=document.language,
                count=self._settings.retrieval_chunks,
            )
        settings = self._narrowed(rng)
        planned = outline(
            before,
            after,
            path=document.path,
            language=language,
            chunks=chunks,
            settings=settings,
            answer=document.text[span.start : span.end],
        )
        return self._labelled(planned, settings, separate=rng.random() < MIDDLE_TOKEN_SHARE)

    def _narrowed(self, rng: random.Random) -> PromptSettings:
        full = self._settings
        return replace(
            full,
            prefix_tokens=max(32, int(full.prefix_tokens * rng.choice(PREFIX_SHARES))),
            suffix_tokens=int(full.suffix_tokens * rng.choice(SUFFIX_SHARES)),
        )

    def _labelled(self, planned: Outline, settings: PromptSettings, separate: bool) -> Sample:
        ids = [self._cached(text) for text in planned.texts()]
        if separate:
            # The other form: the prefix is closed, the answer begins afresh after the sentinel.
            ids[-1] = [*ids[-2], self._fim.middle_id, *self._encode(planned.answer)]
        prompt = assemble(planned, ids, self._fim, settings)
        tokens = (*prompt.tokens, self._fim.end_id)
        first_answer = len(tokens) - 1 - prompt.answer_tokens
        sizes = dict(prompt.parts)
        context = sizes["retrieval"]
        header = (context + sizes["suffix"] + sizes["start"],)
        hidden = set(range(context)) | {context, header[0] - 1}
        hidden |= set(range(header[0], header[0] + sizes["path"]))
        hidden |= {at for at, token in enumerate(tokens) if token == self._fim.middle_id}
        labels = tuple(UNLABELLED if at in hidden else token for at, token in enumerate(tokens))
        weights = tuple(ANSWER_WEIGHT if at >= first_answer else 1.0 for at in range(len(tokens)))
        return Sample(tokens=tokens, labels=labels, weights=weights)

    def _cached(self, text: str) -> list[int]:
        if text not in self._cache:
            self._cache[text] = self._encode(text)
        return self._cache[text]


def _mixed(own: Iterator[Sample], others: Iterator[Sample], share: float) -> Iterator[Sample]:
    """``own`` with ``others`` in between: so many of their tokens for each of the own."""
    due = 0.0
    for sample in own:
        yield sample
        due += share * len(sample.tokens)
        while due > 0 and (other := next(others, None)) is not None:
            yield other
            due -= len(other.tokens)
