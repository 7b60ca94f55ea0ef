"""Does the adapter help? Measured through llama.cpp on the very files that will be served.

Bits per byte are those of plain held-out text, in the same windows for both. Infilling is asked
from each in its own best prompt: the adapter sees the text after the cursor, a base without
infilling tokens does not. Exact match goes through the whole completion service. An adapter is
promoted if the 95 % interval of the change in bits per byte lies below zero.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flex_assist.adapters.manifest import LORA_GGUF
from flex_assist.adapters.router import BASE, Route
from flex_assist.complete.context import RepositoryContext
from flex_assist.complete.request import CompletionRequest
from flex_assist.complete.service import CompletionService
from flex_assist.config import Settings
from flex_assist.engine.local import LocalEngine
from flex_assist.engine.protocol import TextPiece, Weights
from flex_assist.evaluate.bootstrap import ratio_difference_ci95
from flex_assist.evaluate.cases import Case, draw_cases
from flex_assist.evaluate.metrics import edit_similarity, exact_match
from flex_assist.language import BY_NAME
from flex_assist.locations import Locations
from flex_assist.models.fim import FimTokens
from flex_assist.prompt.builder import assemble, outline
from flex_assist.prompt.retrieval import RepositoryIndex
from flex_assist.repository.documents import Document

WINDOW_TOKENS = 512
LEAST_WINDOW_TOKENS = 16
# Below so many files the windows themselves are resampled: a few files have no spread.
LEAST_FILES = 5
# Costs of a plan, in prompt tokens: an adapter reads about 0.7 times as fast as the base.
ADAPTER_COST = 1.0 + 1.0 / 0.7
SPAN_PROMPTS = 2
DECODE_S = 0.8
TEXT_SHARE = 0.45
MOST_SPANS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class GatePlan:
    """How much is measured."""

    window_tokens: int
    spans: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A figure of the base and of the adapted model."""

    base: float
    adapted: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What the gate saw.

    Attributes:
        ci95: Interval of adapted - base in bits per byte.
        fim_nats: Loss of held-out middles, nats a token.
        examples: Prompt end, what was there, and what each wrote; of the training repository only.
    """

    bits_per_byte: Pair
    ci95: tuple[float, float]
    fim_nats: Pair
    exact_match: Pair
    edit_similarity: Pair
    windows: int
    window_tokens: int
    spans: int

    @property
    def helps(self) -> bool:
        """Whether the adapter beats the base."""
        return self.ci95[1] < 0

    def reason(self) -> str:
        """One sentence for people."""
        change = self.bits_per_byte.adapted / self.bits_per_byte.base - 1
        low, high = self.ci95
        verb = "promoted" if self.helps else "the base stays"
        return (
            f"{verb}: bits per byte {self.bits_per_byte.base:.3f} -> "
            f"{self.bits_per_byte.adapted:.3f} ({change:+.1%}, 95 % interval of the change "
            f"[{low:+.3f}, {high:+.3f}])"
        )


def plan_gate(seconds: float, tokens_per_s: float, prompt_tokens: int) -> GatePlan:
    """What fits into ``seconds``.

    Args:
        tokens_per_s: How fast the base reads prompts, measured.
        prompt_tokens: Tokens of a usual infilling prompt.
    """
    window_tokens = int(TEXT_SHARE * seconds * tokens_per_s / ADAPTER_COST)
    one_span_s = SPAN_PROMPTS * ADAPTER_COST * prompt_tokens / tokens_per_s + 2 * DECODE_S
    spans = int((1 - TEXT_SHARE) * seconds / one_span_s)
    return GatePlan(window_tokens=max(512, window_tokens), spans=max(2, min(MOST_SPANS, spans)))


class Gate:
    """Measures adapters of one repository.

    Args:
        model: The base's file as served.
        train: Where retrieval may look: never a held-out file.
    """

    def __init__(
        self,
        *,
        engine: LocalEngine,
        model: Path,
        settings: Settings,
        locations: Locations,
        train: Sequence[Document],
    ) -> None:
        self._engine, self._model = engine, model
        self._settings, self._locations = settings, locations
        self._index = RepositoryIndex(train)

    async def measure(
        self, staged: Path, fim: FimTokens, held_out: Sequence[Document], plan: GatePlan, seed: int
    ) -> Measurement:
        """Compare the adapter in the folder ``staged`` with the base."""
        adapter = staged / LORA_GGUF
        both = (Weights(model=self._model), Weights(model=self._model, adapter=adapter))
        units = await self._windows(held_out, plan.window_tokens, seed)
        bits = [await self._bits(weights, units) for weights in both]
        cases = draw_cases(held_out, plan.spans, seed)
        nats = [
            await self._fim_nats(both[0], None, cases),
            await self._fim_nats(both[1], fim, cases),
        ]
        base = Route(name=BASE, reason="measured")
        candidate = Route(name="candidate", reason="measured", lora=adapter, fim=fim)
        texts = [await self._complete(route, cases) for route in (base, candidate)]
        sizes = [unit.size for unit in units]
        groups = _groups(units)
        return Measurement(
            bits_per_byte=Pair(base=sum(bits[0]) / sum(sizes), adapted=sum(bits[1]) / sum(sizes)),
            ci95=ratio_difference_ci95(
                _sums(bits[0], groups), _sums(bits[1], groups), _sums(sizes, groups), seed
            ),
            fim_nats=Pair(base=nats[0], adapted=nats[1]),
            exact_match=_pair(texts, cases, exact_match),
            edit_similarity=_pair(texts, cases, edit_similarity),
            windows=len(units),
            window_tokens=sum(len(unit.tokens) for unit in units),
            spans=len(cases),
        )

    async def _windows(
        self, documents: Sequence[Document], budget: int, seed: int
    ) -> "list[_Window]":
        """Windows of plain text, from each file in turn, until the budget is used."""
        ids = await self._engine.tokenize(
            self._model, [TextPiece(text=document.text) for document in documents]
        )
        queues = [
            [tokens[at : at + WINDOW_TOKENS] for at in range(0, len(tokens), WINDOW_TOKENS)]
            for tokens in ids
        ]
        order = random.Random(f"{seed}:windows")
        for queue in queues:
            order.shuffle(queue)
        chosen, used = [], 0
        for number, tokens in _in_turn(queues):
            if used >= budget:
                break
            if len(tokens) >= LEAST_WINDOW_TOKENS:
                # The first token is not predicted, so its bytes do not count.
                sizes = await self._engine.byte_lengths(self._model, tokens[1:])
                chosen.append(_Window(file=number, tokens=tokens, size=sum(sizes)))
                used += len(tokens)
        return chosen

    async def _bits(self, weights: Weights, windows: "Sequence[_Window]") -> list[float]:
        losses = await self._engine.score(weights, [window.tokens for window in windows])
        return [float(loss.sum()) / float(np.log(2)) for loss in losses]

    async def _fim_nats(
        self, weights: Weights, fim: FimTokens | None, cases: Sequence[Case]
    ) -> float:
        prompts = [await self._prompt(case, fim) for case in cases]
        losses = await self._engine.score(weights, [tokens for tokens, _ in prompts])
        answers = [count for _, count in prompts]
        total = sum(float(loss[-count:].sum()) for loss, count in zip(losses, answers, strict=True))
        return total / max(1, sum(answers))

    async def _prompt(self, case: Case, fim: FimTokens | None) -> tuple[list[int], int]:
        prompt = self._settings.prompt
        document, language = case.document, BY_NAME[case.document.language]
        chunks = self._index.search(
            case.before,
            case.after,
            path=document.path,
            language=document.language,
            count=prompt.retrieval_chunks,
        )
        planned = outline(
            case.before,
            case.after,
            path=document.path,
            language=language,
            chunks=chunks,
            settings=prompt,
            answer=case.middle,
        )
        pieces = [TextPiece(text=text) for text in planned.texts()]
        built = assemble(planned, await self._engine.tokenize(self._model, pieces), fim, prompt)
        return list(built.tokens), max(1, built.answer_tokens)

    async def _complete(self, route: Route, cases: Sequence[Case]) -> list[str]:
        service = CompletionService(
            engine=self._engine,
            settings=self._settings,
            locations=self._locations,
            root=None,
            context=RepositoryContext(None, self._settings, self._index),
            router=_Always(route),
        )
        answers = []
        for case in cases:
            request = CompletionRequest(
                before=case.before, after=case.after, path=case.document.path
            )
            answers.append((await service.complete(request)).text)
        return answers


@dataclass(frozen=True, slots=True, kw_only=True)
class _Window:
    file: int
    tokens: list[int]
    size: int


@dataclass(frozen=True, slots=True)
class _Always:
    """Routes everything to one choice: the base, or an adapter that is not published yet."""

    choice: Route

    def route(self, language: str | None, choice: str = "auto") -> Route:
        """The one there is."""
        return self.choice


def _in_turn(queues: Sequence[list[list[int]]]) -> list[tuple[int, list[int]]]:
    rounds = max((len(queue) for queue in queues), default=0)
    return [
        (number, queue[at])
        for at in range(rounds)
        for number, queue in enumerate(queues)
        if at < len(queue)
    ]


def _groups(windows: Sequence[_Window]) -> list[list[int]]:
    by_file: dict[int, list[int]] = {}
    for at, window in enumerate(windows):
        by_file.setdefault(window.file, []).append(at)
    if len(by_file) < LEAST_FILES:
        return [[at] for at in range(len(windows))]
    return list(by_file.values())


def _sums(values: Sequence[float], groups: Sequence[Sequence[int]]) -> list[float]:
    return [sum(values[at] for at in group) for group in groups]


def _pair(texts, cases, metric) -> Pair:  # type: ignore[no-untyped-def]
    values = [
        sum(float(metric(text, case.middle)) for text, case in zip(answers, cases, strict=True))
        / max(1, len(cases))
        for answers in texts
    ]
    return Pair(base=round(values[0], 4), adapted=round(values[1], 4))
