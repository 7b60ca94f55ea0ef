"""Places of held-out files to fill in: what several arms lose on them and write into them, in turn.

An arm is an adapter or the base, with pieces of other files in the prompt or without. Each is asked
in its own best prompt: an adapter sees the text after the cursor, a base without infilling tokens
does not. What is written goes through the whole completion service. The losses, which decide, come
first: where time is short, there are places into which nothing is written.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from flex_assist.adapters.router import Route
from flex_assist.complete.context import RepositoryContext
from flex_assist.complete.request import CompletionRequest
from flex_assist.complete.service import CompletionService
from flex_assist.config import Settings
from flex_assist.engine.local import LocalEngine
from flex_assist.engine.protocol import TextPiece
from flex_assist.evaluate.bootstrap import Interval, by_file_ci95
from flex_assist.evaluate.cases import Case
from flex_assist.language import BY_NAME
from flex_assist.locations import Locations
from flex_assist.models.fim import FimTokens
from flex_assist.prompt.builder import assemble, outline
from flex_assist.prompt.retrieval import RepositoryIndex
from flex_trainer.time_limit import TimeLimit

LEAST_WRITTEN = 2
# The interval of fewer would only repeat them.
LEAST_CASES = 5
Metric = Callable[[str, str], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """Who is asked, and how.

    Attributes:
        retrieval: Whether pieces of other files are in the prompt.
        writes: Whether it completes as well; otherwise only its loss is measured.
    """

    route: Route
    retrieval: bool = True
    writes: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Spans:
    """What the arms did at the same places.

    Attributes:
        tokens: Of the missing text of each place.
        nats: For each arm one loss a place.
        texts: For each arm what it wrote into the first places; nothing of arms that do not write.
    """

    cases: tuple[Case, ...]
    tokens: tuple[int, ...]
    nats: tuple[tuple[float, ...], ...]
    texts: tuple[tuple[str, ...], ...]

    @property
    def written(self) -> int:
        """Into how many places something was written: the first ones."""
        return max(map(len, self.texts), default=0)

    def nats_a_token(self, arm: int) -> float:
        """Over all middles."""
        return sum(self.nats[arm]) / max(1, sum(self.tokens))

    def nats_ci95(self, before: int, after: int, seed: int) -> Interval | None:
        """Interval of how much more the arm ``after`` loses a token; None of a few places."""
        return self._interval(self.nats[before], self.nats[after], self.tokens, seed)

    def mean(self, metric: Metric, arm: int) -> float:
        """The metric's mean over the places that were written into."""
        return round(sum(self._values(metric, arm)) / max(1, self.written), 4)

    def mean_ci95(self, metric: Metric, before: int, after: int, seed: int) -> Interval | None:
        """Interval of the change of the metric's mean."""
        ones = [1.0] * self.written
        old, new = self._values(metric, before), self._values(metric, after)
        return self._interval(old, new, ones, seed)

    def of(self, chosen: Collection[str]) -> "Spans":
        """Those of the files of these digests."""
        kept = [at for at, case in enumerate(self.cases) if case.document.sha256 in chosen]
        return Spans(
            cases=tuple(self.cases[at] for at in kept),
            tokens=tuple(self.tokens[at] for at in kept),
            nats=tuple(tuple(arm[at] for at in kept) for arm in self.nats),
            texts=tuple(tuple(arm[at] for at in kept if at < len(arm)) for arm in self.texts),
        )

    def _values(self, metric: Metric, arm: int) -> list[float]:
        pairs = zip(self.texts[arm], self.cases[: self.written], strict=True)
        return [float(metric(text, case.middle)) for text, case in pairs]

    def _interval(
        self, before: Sequence[float], after: Sequence[float], sizes: Sequence[float], seed: int
    ) -> Interval | None:
        if len(before) < LEAST_CASES:
            return None
        files = [case.document.path for case in self.cases[: len(before)]]
        low, high = by_file_ci95(before, after, sizes, files, seed)
        return round(low, 4), round(high, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filler:
    """Asks arms to fill in.

    Attributes:
        model: The base's file as served.
        index: Where retrieval may look.
    """

    engine: LocalEngine
    model: Path
    settings: Settings
    locations: Locations
    index: RepositoryIndex

    async def measure(self, arms: Sequence[Arm], cases: Sequence[Case], limit: TimeLimit) -> Spans:
        """What the arms do at the places that there is time for."""
        services = [self._service(arm.route) if arm.writes else None for arm in arms]
        tokens: list[int] = []
        nats: tuple[list[float], ...] = tuple([] for _ in arms)
        texts: tuple[list[str], ...] = tuple([] for _ in arms)
        for done, case in enumerate(cases[:LEAST_CASES]):
            if limit.over(done, LEAST_CASES):
                break
            tokens.append(await self._lose(arms, case, nats))
        for done, case in enumerate(cases):
            if limit.over(done, LEAST_WRITTEN):
                break
            if done >= len(tokens):
                tokens.append(await self._lose(arms, case, nats))
            for service, written in zip(services, texts, strict=True):
                if service is not None:
                    written.append((await service.complete(_request(case))).text)
        return Spans(
            cases=tuple(cases[: len(tokens)]),
            tokens=tuple(tokens),
            nats=tuple(map(tuple, nats)),
            texts=tuple(map(tuple, texts)),
        )

    async def _lose(self, arms: Sequence[Arm], case: Case, nats: Sequence[list[float]]) -> int:
        """Add each arm's loss on a place, and give the tokens of its middle."""
        count = 0
        for arm, losses in zip(arms, nats, strict=True):
            loss, count = await self._loss(arm, case)
            losses.append(loss)
        return count

    async def _loss(self, arm: Arm, case: Case) -> tuple[float, int]:
        """Of the middle in nats, and its tokens."""
        tokens, count = await self._prompt(case, arm.route.fim, retrieval=arm.retrieval)
        (loss,) = await self.engine.score(arm.route.weights(self.model), [tokens])
        return float(loss[-count:].sum()), count

    async def _prompt(
        self, case: Case, fim: FimTokens | None, *, retrieval: bool
    ) -> tuple[list[int], int]:
        prompt, document = self.settings.prompt, case.document
        chunks = self.index.search(
            case.before,
            case.after,
            path=document.path,
            language=document.language,
            count=prompt.retrieval_chunks if retrieval else 0,
        )
        planned = outline(
            case.before,
            case.after,
            path=document.path,
            language=BY_NAME[document.language],
            chunks=chunks,
            settings=prompt,
            answer=case.middle,
        )
        pieces = [TextPiece(text=text) for text in planned.texts()]
        built = assemble(planned, await self.engine.tokenize(self.model, pieces), fim, prompt)
        return list(built.tokens), max(1, built.answer_tokens)

    def _service(self, route: Route) -> CompletionService:
        return CompletionService(
            engine=self.engine,
            settings=self.settings,
            locations=self.locations,
            root=None,
            context=RepositoryContext(None, self.settings, self.index),
            router=_Always(route),
        )


@dataclass(frozen=True, slots=True)
class _Always:
    """Routes everything to one choice: the base, or an adapter that is not published yet."""

    choice: Route

    def route(self, language: str | None, choice: str = "auto") -> Route:
        """The one there is."""
        return self.choice


def _request(case: Case) -> CompletionRequest:
    return CompletionRequest(before=case.before, after=case.after, path=case.document.path)
