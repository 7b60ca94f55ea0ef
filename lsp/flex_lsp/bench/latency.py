"""Both sides type the same trace, one after the other, each alone on the machine.

What is timed, and how:

- The clock is real time, and the pauses are the trace's: what runs in the background has the time
  that it would have.
- A **model call** lasts from when its prompt is put together (the wait for more keys is before
  that) until its answer is there, on the client; what is written after a first answer by a deadline
  is not waited for. Calls ahead, for what is not asked yet, have their time too. Calls that were
  given up, and those that only have a prompt computed, have no time but are counted: ours gives
  calls up when more is typed, llama.vim never does.
- **Time to shown** is from a key to a suggestion on the screen, from a cache or not, if one comes
  before the next key.
- **CPU seconds** are of all processes of a side, its client's included, from the first key to the
  last; loading the model is not in it. What else the machine did meanwhile is told beside it: times
  are worth something only where that is next to nothing.
- **raw** is what either engine computes a second with nothing to reuse: builds of llama.cpp differ
  in what they use of the processor.
- A **cache hit** is a key after which something was shown without a model call.
"""

import asyncio
import contextlib
import signal
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from flex_assist.config import EngineSettings
from flex_assist.engine.client import HostEngine
from flex_assist.engine.protocol import TextPiece
from flex_assist.engine.vocabularies import Vocabularies
from flex_assist.errors import ModelError
from flex_assist.locations import Locations
from flex_assist.models import store
from flex_assist.models.fim import FimTokens
from flex_lsp.bench import raw
from flex_lsp.bench.calls import Calls, Meter, percentile
from flex_lsp.bench.infill import Infill
from flex_lsp.bench.ours import CountedEngine, Ours
from flex_lsp.bench.server import BATCH_TOKENS, LlamaServer
from flex_lsp.bench.switch import switch_p95_ms, write_adapters
from flex_lsp.bench.trace import Trace
from flex_lsp.bench.typist import Buffer, Outcome, Screen, replay
from flex_lsp.bench.vim import PREDICTED_TOKENS, Vim

HOST_IDLE_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyBench:
    """What is measured. All else of ours is as it comes, whatever this user has set.

    Attributes:
        model: A GGUF file with infilling tokens, for both sides.
        threads: Of either engine.
        context_tokens: Of either engine.
        peer: Whether llama.cpp's server is measured too.
        server: A ``llama-server`` of one's own for that.
    """

    model: Path
    trace: Trace
    threads: int
    context_tokens: int = EngineSettings().context_tokens
    peer: bool = True
    server: Path | None = None

    @property
    def engine(self) -> EngineSettings:
        """Of our engine host."""
        return EngineSettings(
            threads=self.threads,
            context_tokens=self.context_tokens,
            gpu_layers=0,
            # A host that was still starting when all was given up goes by itself.
            idle_exit_s=HOST_IDLE_S,
        )


def run(bench: LatencyBench) -> dict[str, Any]:
    """``compare``. SIGTERM ends it as Ctrl-C does: nothing is left running, and no folder.

    Raises:
        EngineError, ModelError: A side cannot work.
    """

    async def until_terminated() -> dict[str, Any]:
        task = asyncio.current_task()
        assert task is not None
        # Windows has no such signal.
        with contextlib.suppress(NotImplementedError):
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await compare(bench)

    try:
        return asyncio.run(until_terminated())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


async def compare(bench: LatencyBench) -> dict[str, Any]:
    """All figures, as ``--json`` prints them.

    Raises:
        EngineError, ModelError: A side cannot work.
    """
    with tempfile.TemporaryDirectory(prefix="flex-latency-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        home = Locations(**{key: folder / key for key in Locations.__slots__})
        # A file in few bits is served in more; then the peer has that one too.
        served = await asyncio.to_thread(store.serving_path, str(bench.model), home)
        bench = replace(bench, model=served)
        engine = CountedEngine(home, bench.engine, Calls())
        try:
            fim = await fim_of(engine, served)
            ours = await _ours(bench, engine, home, fim)
            adapters = await asyncio.to_thread(write_adapters, served, folder)
            switch_ms, stay_ms = await switch_p95_ms(engine, served, adapters)
            ours["raw"] = await raw.of_ours(engine, served)
        finally:
            await engine.stop_host()
            await engine.close()
        peer = await _peer(bench, fim, folder) if bench.peer else None
    return {
        "ours": ours,
        "peer": peer,
        "ratio": _ratios(ours, peer) if peer else None,
        "switch_p95_ms": round(switch_ms, 2),
        "stay_p95_ms": round(stay_ms, 2),
        "model": bench.model.name,
        "context_tokens": bench.context_tokens,
        "threads": bench.threads,
        "trace": {
            "name": bench.trace.name,
            "characters": bench.trace.characters,
            "edits": len(bench.trace.edits),
            "languages": sorted({one.language_id for one in bench.trace.files}),
        },
    }


async def fim_of(engine: HostEngine, model: Path) -> FimTokens:
    """The infilling tokens of a file.

    Raises:
        ModelError: It has none.
    """
    facts = await engine.facts(model)
    if facts.fim_ids is None or not facts.end_ids:
        raise ModelError(
            f"{model.name!r} has no infilling tokens; give a file that `flex-assist adapters "
            "export` wrote, or one of another base that has them"
        )
    prefix, suffix, middle = facts.fim_ids
    return FimTokens(prefix_id=prefix, suffix_id=suffix, middle_id=middle, end_id=facts.end_ids[0])


async def _ours(
    bench: LatencyBench, engine: CountedEngine, home: Locations, fim: FimTokens
) -> dict[str, Any]:
    root = home.data.parent / "workspace"
    for file in bench.trace.files:
        (root / file.path).parent.mkdir(parents=True, exist_ok=True)
        (root / file.path).write_text(file.text, encoding="utf-8")
    side = Ours(engine, home, fim, root, bench.model)
    buffers = [Buffer(file=one, text=one.text) for one in bench.trace.files]
    for buffer in buffers:
        await side.open(buffer)
    try:
        await side.ready()
        processes = (psutil.Process(), psutil.Process(int((await engine.status())["process"])))
        meter = Meter(*processes)
        outcome = await replay(bench.trace, side, buffers)
        figures = record(outcome, side.screen, side.calls, meter)
        side.check()
        return figures
    finally:
        await side.close()


async def _peer(bench: LatencyBench, fim: FimTokens, folder: Path) -> dict[str, Any]:
    context_tokens, vocabularies = bench.context_tokens, Vocabularies()

    def encode(text: str) -> list[int]:
        return vocabularies.tokenize(bench.model, [TextPiece(text=text)])[0]

    infill = Infill(
        encode, fim, context_tokens=context_tokens, batch_tokens=BATCH_TOKENS,
        predicted_tokens=PREDICTED_TOKENS,
    )  # fmt: skip
    with (folder / "server.log").open("wb") as log:
        server = await asyncio.to_thread(
            LlamaServer,
            bench.model,
            context_tokens=context_tokens,
            threads=bench.threads,
            log=log,
            program=bench.server,
        )
        side = Vim(server, infill)
        try:
            speed = await raw.of_peer(server)
            buffers = [Buffer(file=one, text=one.text) for one in bench.trace.files]
            # The server is a child of this process.
            meter = Meter(psutil.Process())
            outcome = await replay(bench.trace, side, buffers)
            figures = {**record(outcome, side.screen, side.calls, meter), "raw": speed}
            side.check()
            return figures
        finally:
            await side.close()
            await asyncio.to_thread(server.close)


def record(outcome: Outcome, screen: Screen, calls: Calls, meter: Meter) -> dict[str, Any]:
    """One side's figures."""
    return {
        **calls.record(),
        "shown": len(screen.times_ms),
        "shown_p50_ms": percentile(screen.times_ms, 50),
        "shown_p95_ms": percentile(screen.times_ms, 95),
        "shown_p99_ms": percentile(screen.times_ms, 99),
        **meter.record(),
        "keys": outcome.keys,
        "accepted": outcome.accepted,
        "accepted_characters": outcome.accepted_characters,
        "accepted_characters_per_s": round(outcome.accepted_characters / outcome.seconds, 3),
        "seconds": round(outcome.seconds, 1),
    }


def _ratios(ours: dict[str, Any], peer: dict[str, Any]) -> dict[str, float | None]:
    pairs = {"p50": "p50_ms", "p95": "p95_ms", "cpu": "cpu_s"}
    pairs["accepted_characters"] = "accepted_characters"
    return {
        name: round(ours[key] / peer[key], 3) if ours[key] is not None and peer[key] else None
        for name, key in pairs.items()
    }
