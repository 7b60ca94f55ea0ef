"""Does the adapter help? Measured through llama.cpp on the very files that will be served.

Bits per byte are those of plain held-out text, in the same windows for all (``gate_windows``).
Infilling is asked at the same places of the base alone, the base with retrieval, the adapter with
retrieval, and the version that is active (``gate_spans``). Texts that have nothing to do with the
repository tell what was forgotten (``gate_drift``). ``gate_verdict`` decides.

All are measured in turn, window by window and place by place, so that a machine that became slow
shortens the measurement instead of breaking the budget.
"""

import random
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flex_assist.adapters.manifest import LORA_GGUF
from flex_assist.adapters.router import BASE, Route
from flex_assist.config import Settings
from flex_assist.engine.local import LocalEngine
from flex_assist.evaluate.cases import draw_cases
from flex_assist.evaluate.metrics import edit_similarity, exact_match
from flex_assist.locations import Locations
from flex_assist.models.fim import FimTokens
from flex_assist.prompt.retrieval import RepositoryIndex
from flex_assist.repository.documents import Document
from flex_trainer import gate_drift, gate_windows, report_examples
from flex_trainer.gate_drift import LEAST_TEXTS, Drift
from flex_trainer.gate_spans import LEAST_CASES, Arm, Filler, Spans
from flex_trainer.gate_windows import (
    LEAST_RIVAL_WINDOWS,
    LEAST_WINDOWS,
    SHORT_WINDOW_TOKENS,
    WINDOW_TOKENS,
    Bits,
)
from flex_trainer.measurement import HoldOut, Infilling, Measurement, Pair, Rival
from flex_trainer.time_limit import TimeLimit

# How much worse an adapter may be on generic code and on chat, in nats a token.
CODE_BOUND, CHAT_BOUND = 0.2, 0.2
# Costs of a plan, in prompt tokens: an adapter reads about 0.7 times as fast as the base.
ADAPTER_COST = 1.0 + 1.0 / 0.7
SPAN_PROMPTS = 2
DECODE_S = 0.8
# Of the time: for windows of held-out text, and for what was forgotten; the rest is for places.
TEXT_SHARE, DRIFT_SHARE = 0.4, 0.15
MOST_SPANS = 60
DRIFT_TOKENS = 160
ALONE, WITH_RETRIEVAL, ADAPTER, ACTIVE = range(4)
ARMS = ("base", "base + retrieval", "adapter + retrieval", "active + retrieval")
TEST, RECENT = "test", "recent"


@dataclass(frozen=True, slots=True, kw_only=True)
class GatePlan:
    """How much is measured.

    Attributes:
        window_length: Most tokens of one window.
    """

    window_tokens: int
    spans: int
    window_length: int = WINDOW_TOKENS


def plan_gate(seconds: float, tokens_per_s: float, prompt_tokens: int) -> GatePlan:
    """What fits into ``seconds``.

    Args:
        tokens_per_s: How fast the base reads prompts, measured.
        prompt_tokens: Tokens of a usual infilling prompt.
    """
    tokens = int(TEXT_SHARE * seconds * tokens_per_s / ADAPTER_COST)
    length = max(SHORT_WINDOW_TOKENS, min(WINDOW_TOKENS, tokens // (2 * LEAST_WINDOWS)))
    prompts = SPAN_PROMPTS * ADAPTER_COST + 1
    one_span_s = prompts * prompt_tokens / tokens_per_s + 2 * DECODE_S
    spans = int((1 - TEXT_SHARE - DRIFT_SHARE) * seconds / one_span_s)
    return GatePlan(
        window_tokens=max(LEAST_WINDOWS * length, tokens),
        spans=max(LEAST_CASES, min(MOST_SPANS, spans)),
        window_length=length,
    )


def least_tokens() -> int:
    """Tokens that each of two weights reads at the least, places to fill in left out."""
    return LEAST_WINDOWS * SHORT_WINDOW_TOKENS + 2 * LEAST_TEXTS * DRIFT_TOKENS


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An adapter that is not published yet.

    Attributes:
        lora: Its LoRA GGUF file.
        fim: Infilling tokens that it was trained with.
    """

    lora: Path
    fim: FimTokens | None

    def route(self) -> Route:
        """As if it answered."""
        return Route(name="candidate", reason="measured", adapters=(self.lora,), fim=self.fim)


@dataclass(frozen=True, slots=True, kw_only=True)
class Active:
    """The version that answers now.

    Attributes:
        seen: Digests of the texts that it was trained on.
    """

    version: str
    adapter: Candidate
    seen: frozenset[str]


class Gate:
    """Measures adapters of one repository.

    Args:
        model: The base's file as served.
        train: Where retrieval may look: never a held-out file.
        recent: Path and language of the held-out files that the newest commits touched.
        active: The version that answers now, if it has the same base.
    """

    def __init__(
        self,
        *,
        engine: LocalEngine,
        model: Path,
        settings: Settings,
        locations: Locations,
        train: Sequence[Document],
        recent: Collection[tuple[str, str]] = (),
        active: Active | None = None,
    ) -> None:
        self._engine, self._model = engine, model
        self._recent, self._active = frozenset(recent), active
        self._filler = Filler(
            engine=engine,
            model=model,
            settings=settings,
            locations=locations,
            index=RepositoryIndex(train),
        )

    async def measure(
        self,
        staged: Path,
        fim: FimTokens,
        held_out: Sequence[Document],
        plan: GatePlan,
        seed: int,
        limit: TimeLimit,
    ) -> Measurement:
        """Compare the adapter in the folder ``staged`` with the base.

        Args:
            limit: When to stop, though the plan has more.
        """
        started_s = time.monotonic()
        left_s = limit.until_s - started_s
        documents = list(held_out)
        # Where time is short, what is left out is not always the end of the alphabet.
        random.Random(f"{seed}:held out").shuffle(documents)
        # What the active version has not seen comes first: only there can the two be compared.
        documents.sort(key=self._was_seen)
        routes = self._routes(Candidate(lora=staged / LORA_GGUF, fim=fim))
        windows = await gate_windows.draw(
            self._engine, self._model, documents,
            tokens=plan.window_tokens, seed=seed, length=plan.window_length,
        )  # fmt: skip
        weights = [route.weights(self._model) for route in routes]
        bits = await gate_windows.measure(
            self._engine, weights, windows, limit.sooner(started_s + TEXT_SHARE * left_s)
        )
        drift_s = started_s + (TEXT_SHARE + DRIFT_SHARE) * left_s
        drift = await self._drift(routes[0], routes[1], seed, limit.sooner(drift_s))
        cases = draw_cases(documents, plan.spans, seed)
        spans = await self._filler.measure(_arms(routes), cases, limit)
        return Measurement(
            **_text_figures(bits, seed),
            **_span_figures(spans, seed),
            holdouts=self._holdouts(documents, bits, spans, seed),
            drift=drift,
            **self._rival_figures(documents, bits, seed),
            seconds=round(time.monotonic() - started_s, 1),
        )

    def _routes(self, candidate: Candidate) -> list[Route]:
        """The base, the candidate and, if there is one, the active version."""
        routes = [Route(name=BASE, reason="measured"), candidate.route()]
        if self._active is not None:
            routes.append(self._active.adapter.route())
        return routes

    async def _drift(
        self, base: Route, adapter: Route, seed: int, limit: TimeLimit
    ) -> dict[str, Drift]:
        """What was forgotten, each kind of text in half of the time."""
        now_s = time.monotonic()
        half = limit.sooner(now_s + (limit.until_s - now_s) / 2)
        kinds = (
            (
                "code",
                await gate_drift.code_texts(self._engine, self._model, seed),
                CODE_BOUND,
                half,
            ),
            ("chat", await gate_drift.chat_texts(self._engine, self._model), CHAT_BOUND, limit),
        )
        weights = base.weights(self._model), adapter.weights(self._model)
        found = {}
        for name, texts, bound, until in kinds:
            measured = await gate_drift.measure(self._engine, weights, texts, bound, until)
            if measured is not None:
                found[name] = measured
        return found

    def _holdouts(
        self, documents: Sequence[Document], bits: Bits, spans: Spans, seed: int
    ) -> dict[str, HoldOut]:
        sides: dict[str, set[str]] = {TEST: set(), RECENT: set()}
        for document in documents:
            sides[RECENT if self._is_recent(document) else TEST].add(document.sha256)
        digests = [document.sha256 for document in documents]
        found = {
            name: _holdout(bits.of(digests, chosen), spans.of(chosen), seed)
            for name, chosen in sides.items()
        }
        return {name: one for name, one in found.items() if one.windows or one.spans}

    def _is_recent(self, document: Document) -> bool:
        return (document.path, document.language) in self._recent

    def _was_seen(self, document: Document) -> bool:
        return self._active is not None and document.sha256 in self._active.seen

    def _rival_figures(
        self, documents: Sequence[Document], bits: Bits, seed: int
    ) -> dict[str, Any]:
        """The active version, on what it has not seen, or why that is too little to tell."""
        active = self._active
        if active is None:
            return {}
        digests = [document.sha256 for document in documents]
        unseen = bits.of(digests, set(digests) - active.seen)
        if len(unseen.windows) < LEAST_RIVAL_WINDOWS:
            of = f"{len(unseen.windows)} of {len(bits.windows)} windows are"
            return {"uncompared": f"only {of} of files that it was not trained on"}
        low, high = unseen.ci95(2, 1, seed)
        rival = Rival(
            version=active.version,
            active=round(unseen.per_byte(2), 4),
            adapted=round(unseen.per_byte(1), 4),
            ci95=(round(low, 4), round(high, 4)),
            windows=len(unseen.windows),
            files=unseen.files,
        )
        return {"active": rival}


def _arms(routes: Sequence[Route]) -> list[Arm]:
    """In the order of ``ARMS``."""
    base, adapter, *active = routes
    return [
        Arm(route=base, retrieval=False),
        Arm(route=base, writes=True),
        Arm(route=adapter, writes=True),
        *(Arm(route=one) for one in active),
    ]


def _text_figures(bits: Bits, seed: int) -> dict[str, Any]:
    return {
        "bits_per_byte": Pair(base=bits.per_byte(0), adapted=bits.per_byte(1)),
        "ci95": bits.ci95(0, 1, seed),
        "windows": len(bits.windows),
        "window_tokens": sum(len(window.tokens) for window in bits.windows),
        "files": bits.files,
    }


def _span_figures(spans: Spans, seed: int) -> dict[str, Any]:
    before, after = WITH_RETRIEVAL, ADAPTER
    losses = [spans.nats_a_token(arm) for arm in range(len(spans.nats))]
    found: dict[str, Any] = {
        "spans": len(spans.cases),
        "written": spans.written,
        "fim_nats": Pair(base=losses[before], adapted=losses[after]),
        "fim_nats_ci95": spans.nats_ci95(before, after, seed),
        "arms": {
            name: Infilling(
                nats=round(loss, 4),
                ci95=spans.nats_ci95(before, arm, seed) if arm != before else None,
            )
            for arm, (name, loss) in enumerate(zip(ARMS, losses, strict=False))
        },
        "examples": report_examples.choose(
            spans.cases[: spans.written], spans.texts[before], spans.texts[after]
        ),
    }
    for key, metric in (("exact_match", exact_match), ("edit_similarity", edit_similarity)):
        found[key] = Pair(base=spans.mean(metric, before), adapted=spans.mean(metric, after))
        found[f"{key}_ci95"] = spans.mean_ci95(metric, before, after, seed)
    return found


def _holdout(bits: Bits, spans: Spans, seed: int) -> HoldOut:
    pair = Pair(base=round(bits.per_byte(0), 4), adapted=round(bits.per_byte(1), 4))
    low, high = bits.ci95(0, 1, seed)
    return HoldOut(
        bits_per_byte=pair if bits.windows else None,
        ci95=(round(low, 4), round(high, 4)) if bits.windows else None,
        windows=len(bits.windows),
        files=bits.files,
        spans=len(spans.cases),
        fim_nats={
            name: round(spans.nats_a_token(arm), 4)
            for arm, name in enumerate(ARMS[: len(spans.nats)])
            if spans.cases
        },
    )
