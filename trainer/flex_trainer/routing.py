"""Which adapter answers for which language, measured when all adapters of a run are made.

For each language its own adapter, the shared one, both added, those of related languages and the
base are asked for the same windows of held-back code, through llama.cpp, on the files that are
served. Both added means just that: each was trained by itself, so it is measured whether their sum
is any good. Held-back are the ``tune`` files: the gate's own are never looked at here.

What the gate has let through stays unless another one is better beyond noise: the gate saw more.
"""

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from flex_assist.adapters import routes
from flex_assist.adapters.registry import AdapterVersion, Registry
from flex_assist.adapters.router import BASE, SHARED, Router
from flex_assist.adapters.routes import PLUS, Candidate, Interval, MeasuredRoute, RouteTable
from flex_assist.engine.local import LocalEngine
from flex_assist.engine.protocol import TextPiece, Weights
from flex_assist.errors import DataError
from flex_assist.evaluate.bootstrap import ratio_difference_ci95
from flex_assist.repository.documents import Document
from flex_assist.repository.snapshot import Snapshot
from flex_trainer.events import Event
from flex_trainer.outcome import SEEN
from flex_trainer.plan import RunPlan
from flex_trainer.workshop import Workshop

# Short, so that many places of several files are seen in little time.
WINDOW_TOKENS = 192
LEAST_WINDOW_TOKENS = 16
CONTEXT_TOKENS = 256
# Fewer windows have no interval worth the name; more tell nothing new.
LEAST_WINDOWS = 8
MOST_WINDOWS = 64
# Below so many files the windows themselves are resampled.
LEAST_FILES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A piece of a held-back file.

    Attributes:
        size: Bytes that the tokens but the first stand for.
    """

    file: int
    tokens: tuple[int, ...]
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What the candidates needed for the same windows.

    Attributes:
        bits: By the candidate's name, one number a window.
    """

    windows: tuple[Window, ...]
    bits: Mapping[str, Sequence[float]]

    def bits_per_byte(self, name: str) -> float:
        """Of all windows together."""
        return sum(self.bits[name]) / sum(window.size for window in self.windows)

    def difference(self, name: str, other: str, seed: int) -> Interval:
        """A 95 % interval of how many bits per byte ``name`` needs more than ``other``."""
        files = [window.file for window in self.windows]
        keys = files if len(set(files)) >= LEAST_FILES else list(range(len(files)))
        sums = {key: [0.0, 0.0, 0.0] for key in keys}
        columns = (self.bits[other], self.bits[name], [window.size for window in self.windows])
        for key, *values in zip(keys, *columns, strict=True):
            sums[key] = [held + value for held, value in zip(sums[key], values, strict=True)]
        before, after, sizes = zip(*sums.values(), strict=True)
        return ratio_difference_ci95(before, after, sizes, seed)

    @property
    def files(self) -> int:
        """How many files the windows are of."""
        return len({window.file for window in self.windows})


def write_table(shop: Workshop, snapshot: Snapshot, run_plan: RunPlan) -> RouteTable:
    """Measure all languages of a repository within the time for it, and write the table."""
    table = asyncio.run(_table(shop, snapshot, run_plan))
    try:
        earlier = routes.read(shop.registry.folder)
    except DataError:
        # A damaged one is replaced.
        earlier = None
    whole = table.with_earlier(earlier)
    routes.write(whole, shop.registry.folder)
    return whole


async def _table(shop: Workshop, snapshot: Snapshot, run_plan: RunPlan) -> RouteTable:
    router = Router(shop.locations, snapshot.root, shop.settings.model.base)
    # Many contexts are open at once: short ones, so that they take little memory.
    engine = LocalEngine(replace(shop.settings.engine, context_tokens=CONTEXT_TOKENS))
    left_s = shop.budget.routing_left_s()
    languages = snapshot.languages()
    found = {}
    try:
        for at, language in enumerate(languages):
            shop.listen(Event(phase="route", language=language))
            started_s = time.monotonic()
            judge = Judge(
                engine=engine,
                model=shop.served,
                registry=shop.registry,
                until_s=started_s + left_s / (len(languages) - at),
                seed=run_plan.recipe.seed,
            )
            found[language] = await judge.route(language, router, snapshot.of((language,)).tune)
            left_s -= time.monotonic() - started_s
    finally:
        await engine.close()
    return RouteTable(base_model=shop.base.name, base_sha256=run_plan.base_sha256, routes=found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """Compares the candidates of one language.

    Attributes:
        until_s: ``time.monotonic()`` at which to stop.
    """

    engine: LocalEngine
    model: Path
    registry: Registry
    until_s: float
    seed: int

    async def route(self, language: str, router: Router, tune: Sequence[Document]) -> MeasuredRoute:
        """The best of the candidates for a language, or by the plain rule what cannot be told."""
        plain = router.plain(language)
        versions = {
            name: self.registry.get(name, version)
            for name, version in router.usable(language).items()
        }
        candidates = _candidates(language, versions)
        if len(candidates) == 1:
            return MeasuredRoute(choice=BASE, reason=plain.reason, candidates=candidates)
        measured = await self._measured(candidates, versions, unseen(tune, versions))
        if isinstance(measured, str):
            reason = f"{plain.reason}; not compared: {measured}"
            return MeasuredRoute(choice=plain.name, reason=reason, candidates=candidates)
        return decide(plain.name, candidates, measured, self.seed)

    async def _measured(
        self,
        candidates: Sequence[Candidate],
        versions: Mapping[str, AdapterVersion],
        tune: Sequence[Document],
    ) -> Measured | str:
        """What there was time for, or why it is too little."""
        chosen = await self._windows(tune)
        if len(chosen) < LEAST_WINDOWS:
            return f"{len(tune)} held-back files with {len(chosen)} windows are too few"
        used: list[Window] = []
        bits: dict[str, list[float]] = {one.name: [] for one in candidates}
        for window in chosen:
            if time.monotonic() > self.until_s:
                break
            for one in candidates:
                adapters = tuple(versions[name].lora for name in one.versions)
                weights = Weights(model=self.model, adapters=adapters)
                (loss,) = await self.engine.score(weights, [window.tokens])
                bits[one.name].append(float(loss.sum()) / float(np.log(2)))
            used.append(window)
        if len(used) < LEAST_WINDOWS:
            return f"there was time for {len(used)} windows only"
        return Measured(windows=tuple(used), bits=bits)

    async def _windows(self, documents: Sequence[Document]) -> list[Window]:
        """Windows of plain text, from each file in turn."""
        pieces = [TextPiece(text=document.text) for document in documents]
        order = random.Random(f"{self.seed}:routing")
        queues = []
        for number, tokens in enumerate(await self.engine.tokenize(self.model, pieces)):
            starts = list(range(0, len(tokens), WINDOW_TOKENS))
            order.shuffle(starts)
            queues.append([(number, tuple(tokens[at : at + WINDOW_TOKENS])) for at in starts])
        longest = max(map(len, queues), default=0)
        in_turn = [queue[at] for at in range(longest) for queue in queues if at < len(queue)]
        enough = [each for each in in_turn if len(each[1]) >= LEAST_WINDOW_TOKENS][:MOST_WINDOWS]
        # The first token is not predicted, so its bytes do not count.
        sizes = [await self.engine.byte_lengths(self.model, tokens[1:]) for _, tokens in enough]
        return [
            Window(file=number, tokens=tokens, size=sum(size))
            for (number, tokens), size in zip(enough, sizes, strict=True)
        ]


def decide(
    plain: str, candidates: Sequence[Candidate], measured: Measured, seed: int
) -> MeasuredRoute:
    """Choose by what was measured.

    Args:
        plain: Who answers by the plain rule: it stays unless another is better beyond noise, and,
            if that is an adapter, better than the base as well.
    """
    told = tuple(
        replace(
            one,
            bits_per_byte=round(measured.bits_per_byte(one.name), 4),
            ci95=None if one.name == BASE else _rounded(measured.difference(one.name, BASE, seed)),
        )
        for one in candidates
    )
    better = [
        one.name
        for one in told
        if one.name != plain
        and measured.difference(one.name, plain, seed)[1] < 0
        and (one.ci95 is None or one.ci95[1] < 0)
    ]
    choice = min(better, key=measured.bits_per_byte, default=plain)
    return MeasuredRoute(choice=choice, reason=_reason(choice, told, measured), candidates=told)


def unseen(documents: Sequence[Document], versions: Mapping[str, AdapterVersion]) -> list[Document]:
    """The documents that no candidate was trained on: an older one saw another split."""
    seen = {
        record.get("sha256")
        for version in versions.values()
        for record in version.manifest.data
        if record["verdict"] in SEEN
    }
    return [document for document in documents if document.sha256 not in seen]


def _candidates(language: str, versions: Mapping[str, AdapterVersion]) -> tuple[Candidate, ...]:
    known = {name: one.manifest.version for name, one in versions.items()}
    found = [Candidate(name=BASE, versions={})]
    found += [Candidate(name=name, versions={name: version}) for name, version in known.items()]
    if SHARED in known and language in known:
        both = {name: known[name] for name in (SHARED, language)}
        found.append(Candidate(name=PLUS.join(both), versions=both))
    return tuple(found)


def _reason(choice: str, told: Sequence[Candidate], measured: Measured) -> str:
    by_name = {one.name: one for one in told}
    chosen, base = by_name[choice], by_name[BASE]
    on = f"on {len(measured.windows)} windows of {measured.files} held-back files"
    others = sorted((one for one in told if one.name != choice), key=lambda one: _bits(one))
    if chosen.ci95 is None:
        best = others[0]
        needs = f"the base needs {_bits(base):.3f} bits per byte"
        return f"{needs} and {best.name} {_bits(best):.3f} {on}"
    low, high = chosen.ci95
    reason = (
        f"{choice} needs {_bits(chosen):.3f} bits per byte and the base {_bits(base):.3f} {on} "
        f"(95 % interval of the difference [{low:+.3f}, {high:+.3f}])"
    )
    if _bits(others[0]) < _bits(chosen):
        reason += f"; {others[0].name} needs {_bits(others[0]):.3f}, which is not beyond noise"
    return reason


def _bits(candidate: Candidate) -> float:
    assert candidate.bits_per_byte is not None
    return candidate.bits_per_byte


def _rounded(interval: Interval) -> Interval:
    return round(interval[0], 4), round(interval[1], 4)
