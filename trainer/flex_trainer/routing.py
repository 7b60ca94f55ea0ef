"""Which adapter answers for which language, measured when all adapters of a run are made.

For each language its own adapter, the shared one, both added, those of related languages and the
base are asked for the same windows of held-back code, through llama.cpp, on the files that are
served. Both added means just that: each was trained by itself, so it is measured whether their sum
is any good. Held-back are the ``tune`` files: the gate's own are never looked at here.

What the gate has let through stays unless another one is better beyond noise: the gate saw more.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flex_assist.adapters import routes
from flex_assist.adapters.registry import AdapterVersion, Registry
from flex_assist.adapters.router import BASE, SHARED, Route, Router
from flex_assist.adapters.routes import PLUS, Candidate, MeasuredRoute, RouteTable
from flex_assist.engine.local import LocalEngine
from flex_assist.engine.protocol import Weights
from flex_assist.errors import DataError
from flex_assist.evaluate.bootstrap import Interval
from flex_assist.repository.documents import Document
from flex_assist.repository.snapshot import Snapshot
from flex_trainer.events import Event
from flex_trainer.gate_windows import (
    LEAST_WINDOWS,
    SHORT_WINDOW_TOKENS,
    Bits,
    draw,
    measure,
)
from flex_trainer.outcome import SEEN
from flex_trainer.plan import RunPlan
from flex_trainer.time_limit import TimeLimit
from flex_trainer.workshop import Workshop

CONTEXT_TOKENS = 256
# More tell nothing new.
MOST_WINDOWS = 64


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
    since_s = time.monotonic()
    languages = snapshot.languages()
    found = {}
    try:
        for at, language in enumerate(languages):
            shop.listen(Event(phase="route", language=language))
            judge = Judge(
                engine=engine,
                model=shop.served,
                registry=shop.registry,
                limit=shop.budget.routing_limit(len(languages) - at, since_s),
                seed=run_plan.recipe.seed,
            )
            found[language] = await judge.route(language, router, snapshot.of((language,)).tune)
    finally:
        await engine.close()
    return RouteTable(base_model=shop.base.name, base_sha256=run_plan.base_sha256, routes=found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """Compares the candidates of one language.

    Attributes:
        limit: When to stop; until its last moment the least that tells anything is measured.
    """

    engine: LocalEngine
    model: Path
    registry: Registry
    limit: TimeLimit
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
        documents = unseen(tune, versions)
        tokens = MOST_WINDOWS * SHORT_WINDOW_TOKENS
        windows = await draw(
            self.engine, self.model, documents,
            tokens=tokens, seed=self.seed, length=SHORT_WINDOW_TOKENS,
        )  # fmt: skip
        if len(windows) < LEAST_WINDOWS:
            why = f"{len(documents)} held-back files with {len(windows)} windows are too few"
            return _uncompared(plain, candidates, why)
        arms = [self._weights(one, versions) for one in candidates]
        bits = await measure(self.engine, arms, windows, self.limit)
        if len(bits.windows) < LEAST_WINDOWS:
            why = f"there was time for {len(bits.windows)} of {len(windows)} windows"
            return _uncompared(plain, candidates, why)
        return decide(plain.name, candidates, bits, self.seed)

    def _weights(self, candidate: Candidate, versions: Mapping[str, AdapterVersion]) -> Weights:
        adapters = tuple(versions[name].lora for name in candidate.versions)
        return Weights(model=self.model, adapters=adapters)


def decide(plain: str, candidates: Sequence[Candidate], bits: Bits, seed: int) -> MeasuredRoute:
    """Choose by what was measured.

    Args:
        plain: Who answers by the plain rule: it stays unless another is better beyond noise, and,
            if that is an adapter, better than the base as well.
        bits: One arm a candidate.
    """
    arms = {one.name: arm for arm, one in enumerate(candidates)}
    told = tuple(
        replace(
            one,
            bits_per_byte=round(bits.per_byte(arms[one.name]), 4),
            ci95=None if one.name == BASE else _difference(bits, arms, one.name, BASE, seed),
        )
        for one in candidates
    )
    better = [
        one
        for one in told
        if one.name != plain
        and _difference(bits, arms, one.name, plain, seed)[1] < 0
        and (one.ci95 is None or one.ci95[1] < 0)
    ]
    choice = min(better, key=_bits).name if better else plain
    return MeasuredRoute(choice=choice, reason=_reason(choice, told, bits), candidates=told)


def _difference(bits: Bits, arms: Mapping[str, int], name: str, other: str, seed: int) -> Interval:
    """How many bits per byte ``name`` needs more than ``other``."""
    low, high = bits.ci95(arms[other], arms[name], seed)
    return round(low, 4), round(high, 4)


def _uncompared(plain: Route, candidates: Sequence[Candidate], why: str) -> MeasuredRoute:
    reason = f"{plain.reason}; not compared: {why}"
    return MeasuredRoute(choice=plain.name, reason=reason, candidates=tuple(candidates))


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


def _reason(choice: str, told: Sequence[Candidate], bits: Bits) -> str:
    by_name = {one.name: one for one in told}
    chosen, base = by_name[choice], by_name[BASE]
    on = f"on {len(bits.windows)} windows of {bits.files} held-back files"
    others = sorted((one for one in told if one.name != choice), key=_bits)
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
