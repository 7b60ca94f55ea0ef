"""Does the adapter help? Measured through llama.cpp on the very files that will be served.

Bits per byte are those of plain held-out text, in the same windows for both. Infilling is asked
from each in its own best prompt: the adapter sees the text after the cursor, a base without
infilling tokens does not. Exact match goes through the whole completion service. An adapter is
promoted if the 95 % interval of the change in bits per byte lies below zero.

Both are measured in turn, window by window and case by case, so that a machine that became slow
shortens the measurement instead of breaking the budget.
"""

import random
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

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
from flex_trainer import report_examples
from flex_trainer.report_examples import NO_EXAMPLES, Examples

WINDOW_TOKENS = 512
LEAST_WINDOW_TOKENS = 16
# Below so many files the windows themselves are resampled: a few files have no spread.
LEAST_FILES = 5
# Fewer windows, each of another file, have no interval worth the name: nothing is promoted then.
LEAST_WINDOWS = 8
LEAST_SPANS = 2
# The interval of fewer would only repeat them.
LEAST_CASES = 5
# Costs of a plan, in prompt tokens: an adapter reads about 0.7 times as fast as the base.
ADAPTER_COST = 1.0 + 1.0 / 0.7
SPAN_PROMPTS = 2
DECODE_S = 0.8
TEXT_SHARE = 0.45
MOST_SPANS = 60
Interval = tuple[float, float]


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
        files: Whose text the windows are.
        fim_nats_ci95: Intervals of adapted - base, as ``ci95``; None of a few cases.
        examples: What each wrote into some cases: for the report only, see ``figures``.
    """

    bits_per_byte: Pair
    ci95: tuple[float, float]
    fim_nats: Pair
    exact_match: Pair
    edit_similarity: Pair
    windows: int
    window_tokens: int
    spans: int
    files: int = 0
    fim_nats_ci95: Interval | None = None
    exact_match_ci95: Interval | None = None
    edit_similarity_ci95: Interval | None = None
    examples: Examples = NO_EXAMPLES

    def figures(self) -> dict[str, Any]:
        """All but the examples: what a manifest keeps. They are text of the repository."""
        return {key: value for key, value in asdict(self).items() if key != "examples"}

    @property
    def helps(self) -> bool:
        """Whether the adapter beats the base."""
        return self.ci95[1] < 0 and self.windows >= LEAST_WINDOWS

    def reason(self) -> str:
        """One sentence for people."""
        change = self.bits_per_byte.adapted / self.bits_per_byte.base - 1
        low, high = self.ci95
        verb = "promoted" if self.helps else "the base stays"
        if self.windows < LEAST_WINDOWS:
            verb += f" ({self.windows} windows of held-out text are too few to tell)"
        return (
            f"{verb}: bits per byte {self.bits_per_byte.base:.3f} -> "
            f"{self.bits_per_byte.adapted:.3f} ({change:+.1%}; 95 % interval of the difference "
            f"in bits per byte [{low:+.3f}, {high:+.3f}])"
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
    return GatePlan(
        window_tokens=max(LEAST_WINDOWS * WINDOW_TOKENS, window_tokens),
        spans=max(LEAST_SPANS, min(MOST_SPANS, spans)),
    )


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
        self,
        staged: Path,
        fim: FimTokens,
        held_out: Sequence[Document],
        plan: GatePlan,
        seed: int,
        until_s: float,
    ) -> Measurement:
        """Compare the adapter in the folder ``staged`` with the base.

        Args:
            until_s: ``time.monotonic()`` at which to stop, though the plan has more.
        """
        adapter = staged / LORA_GGUF
        started_s = time.monotonic()
        units, bits = await self._bits(
            adapter,
            await self._windows(held_out, plan.window_tokens, seed),
            started_s + TEXT_SHARE * (until_s - started_s),
        )
        spans = await self._spans(adapter, fim, draw_cases(held_out, plan.spans, seed), until_s)
        sizes, groups = [unit.size for unit in units], _groups([unit.file for unit in units])
        return Measurement(
            bits_per_byte=Pair(base=sum(bits[0]) / sum(sizes), adapted=sum(bits[1]) / sum(sizes)),
            ci95=ratio_difference_ci95(
                _sums(bits[0], groups), _sums(bits[1], groups), _sums(sizes, groups), seed
            ),
            fim_nats=spans.nats(),
            exact_match=spans.mean(exact_match),
            edit_similarity=spans.mean(edit_similarity),
            windows=len(units),
            window_tokens=sum(len(unit.tokens) for unit in units),
            spans=len(spans.cases),
            files=len({unit.file for unit in units}),
            fim_nats_ci95=spans.nats_ci95(seed),
            exact_match_ci95=spans.mean_ci95(exact_match, seed),
            edit_similarity_ci95=spans.mean_ci95(edit_similarity, seed),
            examples=report_examples.choose(spans.cases, *spans.texts),
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

    async def _bits(
        self, adapter: Path, windows: "Sequence[_Window]", until_s: float
    ) -> "tuple[list[_Window], tuple[list[float], list[float]]]":
        """The windows that there was time for, and the bits of each: the base's, the adapter's."""
        both = (Weights(model=self._model), Weights(model=self._model, adapters=(adapter,)))
        used: list[_Window] = []
        bits: tuple[list[float], list[float]] = ([], [])
        for window in windows:
            if len(used) >= LEAST_WINDOWS and time.monotonic() > until_s:
                break
            for weights, values in zip(both, bits, strict=True):
                (loss,) = await self._engine.score(weights, [window.tokens])
                values.append(float(loss.sum()) / float(np.log(2)))
            used.append(window)
        return used, bits

    async def _spans(
        self, adapter: Path, fim: FimTokens, cases: Sequence[Case], until_s: float
    ) -> "_Spans":
        """What each wrote into the cases that there was time for, and its loss there."""
        routes = (
            Route(name=BASE, reason="measured"),
            Route(name="candidate", reason="measured", adapters=(adapter,), fim=fim),
        )
        services = [self._service(route) for route in routes]
        found = _Spans()
        for case in cases:
            if len(found.cases) >= LEAST_SPANS and time.monotonic() > until_s:
                break
            request = CompletionRequest(
                before=case.before, after=case.after, path=case.document.path
            )
            for side, (route, service) in enumerate(zip(routes, services, strict=True)):
                found.losses[side].append(await self._fim_nats(route, case))
                found.texts[side].append((await service.complete(request)).text)
            found.cases.append(case)
        return found

    async def _fim_nats(self, route: Route, case: Case) -> tuple[float, int]:
        """Loss of the middle in nats, and its tokens."""
        tokens, count = await self._prompt(case, route.fim)
        (loss,) = await self._engine.score(route.weights(self._model), [tokens])
        return float(loss[-count:].sum()), count

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

    def _service(self, route: Route) -> CompletionService:
        return CompletionService(
            engine=self._engine,
            settings=self._settings,
            locations=self._locations,
            root=None,
            context=RepositoryContext(None, self._settings, self._index),
            router=_Always(route),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Window:
    file: int
    tokens: list[int]
    size: int


@dataclass(frozen=True, slots=True)
class _Spans:
    """Cases, and for base and adapter in turn what each wrote and (loss, tokens)."""

    cases: list[Case] = field(default_factory=list)
    texts: tuple[list[str], list[str]] = field(default_factory=lambda: ([], []))
    losses: tuple[list[tuple[float, int]], list[tuple[float, int]]] = field(
        default_factory=lambda: ([], [])
    )

    def nats(self) -> Pair:
        """Nats a token over all middles."""
        base, adapted = (
            sum(loss for loss, _ in side) / max(1, sum(count for _, count in side))
            for side in self.losses
        )
        return Pair(base=base, adapted=adapted)

    def nats_ci95(self, seed: int) -> Interval | None:
        """Interval of the change in nats a token."""
        base, adapted = ([loss for loss, _ in side] for side in self.losses)
        # A middle has as many tokens for both: only the prompt before it differs.
        return self._interval(base, adapted, [count for _, count in self.losses[0]], seed)

    def mean(self, metric: Callable[[str, str], float]) -> Pair:
        """The metric's mean over the cases."""
        base, adapted = (sum(side) / max(1, len(side)) for side in self._values(metric))
        return Pair(base=round(base, 4), adapted=round(adapted, 4))

    def mean_ci95(self, metric: Callable[[str, str], float], seed: int) -> Interval | None:
        """Interval of the change of the metric's mean."""
        return self._interval(*self._values(metric), [1.0] * len(self.cases), seed)

    def _values(self, metric: Callable[[str, str], float]) -> tuple[list[float], list[float]]:
        base, adapted = (
            [float(metric(text, case.middle)) for text, case in zip(side, self.cases, strict=True)]
            for side in self.texts
        )
        return base, adapted

    def _interval(
        self, base: Sequence[float], adapted: Sequence[float], sizes: Sequence[float], seed: int
    ) -> Interval | None:
        if len(self.cases) < LEAST_CASES:
            return None
        groups = _groups([case.document.path for case in self.cases])
        low, high = ratio_difference_ci95(
            _sums(base, groups), _sums(adapted, groups), _sums(sizes, groups), seed
        )
        return round(low, 4), round(high, 4)


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


def _groups(files: Sequence[Hashable]) -> list[list[int]]:
    """Which units are resampled together: those of a file."""
    by_file: dict[Hashable, list[int]] = {}
    for at, file in enumerate(files):
        by_file.setdefault(file, []).append(at)
    if len(by_file) < LEAST_FILES:
        return [[at] for at in range(len(files))]
    return list(by_file.values())


def _sums(values: Sequence[float], groups: Sequence[Sequence[int]]) -> list[float]:
    return [sum(values[at] for at in group) for group in groups]
