"""Ten thousand requests to one engine host: nothing wrong, nothing leaked, no memory lost.

Twenty files of three languages, each with an adapter of its own; typing, jumps, changes between
files, a chat now and then, and a fifth of all requests cancelled at a random moment. Of the answers
a sample is compared with fresh contexts (``replay.py``).
"""

import argparse
import asyncio
import contextlib
import dataclasses
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import bars
import psutil
import replay

from flex_assist.config import EngineSettings
from flex_assist.engine.client import HostEngine
from flex_assist.engine.protocol import Finished, GenerateRequest, Priority, TextPiece, Weights
from flex_assist.errors import FlexAssistError
from flex_assist.locations import Locations, below, locate
from flex_assist.models import store
from flex_lsp.bench.switch import write_adapter

BASE: Final = "smollm2-135m"
LANGUAGES: Final = ("python", "typescript", "lua")
FILES, SAMPLES = 20, 200
THREADS, CONTEXT_TOKENS = 2, 512
# Of a prompt: so far back it reaches, in steps, so that typing leaves its beginning in place.
WINDOW_TOKENS, STEP_TOKENS = 192, 64
ANSWER_TOKENS, CHAT_TOKENS = 5, 24
CANCELLED, JUMPS, CHANGES, CHATS = 0.2, 0.03, 0.04, 0.01
LONGEST_BEFORE_CANCEL_S = 0.06
# A request that was cancelled is over by then.
SETTLED_S = 1.0
WARM_SHARE = 0.1
# Of the adapters, of random numbers: enough to change what is said, and not so much that nothing
# else is left of the model.
RANK, UPDATE_SIZE = 4, 0.1


@dataclasses.dataclass(slots=True)
class Open:
    """A file that is worked on."""

    language: str
    tokens: tuple[int, ...]
    cursor: int
    name: str

    def prompt(self) -> tuple[int, ...]:
        """The tokens before the cursor."""
        start = max(0, self.cursor - WINDOW_TOKENS) // STEP_TOKENS * STEP_TOKENS
        return self.tokens[start : self.cursor]


class Traffic:
    """What people do, by a seed."""

    def __init__(self, engine: HostEngine, files: Sequence[Open], adapters: dict[str, Path],
                 model: Path, seed: int) -> None:  # fmt: skip
        self._engine, self._files, self._model = engine, files, model
        self._adapters = adapters
        self._random = random.Random(seed)
        self._current = files[0]
        self._chat: asyncio.Task[None] | None = None
        self.counts = {"answered": 0, "cancelled": 0, "chats": 0, "errors": 0}
        self.errors: list[str] = []

    async def one(self) -> None:
        """One request."""
        draw = self._random.random
        if draw() < CHANGES:
            self._current = self._random.choice(self._files)
        file = self._current
        step = self._random.randint(1, 3)
        last = len(file.tokens) - 4
        jump = draw() < JUMPS or file.cursor + step >= last
        file.cursor = self._random.randint(8, last) if jump else file.cursor + step
        if draw() < CHATS and (self._chat is None or self._chat.done()):
            self._chat = asyncio.create_task(self._ask(file, Priority.CHAT, CHAT_TOKENS))
            self.counts["chats"] += 1
        asking = asyncio.create_task(self._ask(file, Priority.COMPLETION, ANSWER_TOKENS))
        if draw() < CANCELLED:
            await asyncio.sleep(draw() * LONGEST_BEFORE_CANCEL_S)
            asking.cancel()
            self.counts["cancelled"] += 1
        with contextlib.suppress(asyncio.CancelledError):
            await asking

    async def visit_all(self) -> None:
        """Read and chat in every file, so that what is kept of each is there: the warm-up."""
        for file in self._files:
            file.cursor = min(len(file.tokens) - 4, WINDOW_TOKENS + STEP_TOKENS - 1)
            await self._ask(file, Priority.COMPLETION, ANSWER_TOKENS)
            await self._ask(file, Priority.CHAT, CHAT_TOKENS)
        self.counts["answered"] = 0

    async def end(self) -> None:
        """Let a chat that runs come to its end."""
        if self._chat is not None:
            await self._chat

    async def _ask(self, file: Open, priority: Priority, tokens: int) -> None:
        weights = Weights(model=self._model, adapters=(self._adapters[file.language],))
        request = GenerateRequest(
            weights=weights, tokens=file.prompt(), max_tokens=tokens, priority=priority,
            document=file.name,
            heal=self._random.random() < 0.3,
        )  # fmt: skip
        try:
            async for item in self._engine.generate(request):
                if isinstance(item, Finished) and priority is Priority.COMPLETION:
                    self.counts["answered"] += 1
        except FlexAssistError as error:
            self.counts["errors"] += 1
            self.errors = [*self.errors, str(error)][:5]


def sources() -> list[tuple[str, str]]:
    """Texts of this project's, with their languages."""
    texts: list[tuple[str, str]] = []
    shares = {"python": (10, "*.py"), "typescript": (5, "*.ts"), "lua": (5, "*.lua")}
    for language, (count, pattern) in shares.items():
        found = [path for path in bars.ROOT.rglob(pattern) if "node_modules" not in path.parts]
        inner = {path: path.relative_to(bars.ROOT).parts for path in found}
        own = [one for one in found if not any(part.startswith(".") for part in inner[one])]
        own.sort(key=lambda path: (-path.stat().st_size, path))
        whole = [path.read_text() for path in own[:count]]
        # Too few files: their halves are files too.
        while len(whole) < count:
            longest = max(whole, key=len)
            whole.remove(longest)
            whole += [longest[: len(longest) // 2], longest[len(longest) // 2 :]]
        texts += [(language, text) for text in whole]
    return texts


async def drive(arguments: argparse.Namespace, home: Path) -> dict[str, Any]:
    """The traffic, with the host's memory on the way."""
    locations = below(home)
    engine = HostEngine(locations, EngineSettings(threads=THREADS, context_tokens=CONTEXT_TOKENS))
    model = store.serving_path(BASE, locate())
    made = {
        name: write_adapter(model, home / f"{name}.gguf", at, rank=RANK, size=UPDATE_SIZE)
        for at, name in enumerate(LANGUAGES)
    }
    files = []
    for language, text in sources()[:FILES]:
        (tokens,) = await engine.tokenize(model, [TextPiece(text=text[:20000])])
        files.append(
            Open(language, tuple(tokens), min(64, len(tokens) // 2), f"{len(files)}.{language}")
        )
    process = psutil.Process((await engine.status())["process"])
    traffic = Traffic(engine, files, made, model, arguments.seed)
    await traffic.visit_all()
    began_s, memory = time.monotonic(), []
    look_every = max(1, arguments.requests // 50)
    for number in range(arguments.requests):
        await traffic.one()
        if number % look_every == look_every - 1:
            memory.append(process.memory_info().rss)
    await traffic.end()
    seconds = time.monotonic() - began_s
    status = await _settled(engine)
    await engine.stop_host()
    await engine.close()
    warm = memory[int(len(memory) * WARM_SHARE)]
    return {
        "requests": arguments.requests, "files": len(files), "languages": len(LANGUAGES),
        **traffic.counts, "error_messages": traffic.errors, "seconds": round(seconds, 1),
        "warm_rss_mb": round(warm / 1e6, 1), "end_rss_mb": round(memory[-1] / 1e6, 1),
        "rss_growth": round(memory[-1] / warm - 1, 4),
        "most_rss_growth": round(max(memory[int(len(memory) * WARM_SHARE):]) / warm - 1, 4),
        "rss_mb": [round(one / 1e6, 1) for one in memory],
        "requests_left": _left(status),
        "contexts": len(status["contexts"]),
    }  # fmt: skip


async def _settled(engine: HostEngine) -> dict[str, Any]:
    """The host's status once what was cancelled last has ended, or should have."""
    until_s = time.monotonic() + SETTLED_S
    while _left(status := await engine.status()) and time.monotonic() < until_s:
        await asyncio.sleep(0.05)
    return status


def _left(status: dict[str, Any]) -> int:
    return int(status["requests"] + sum(status["queue"].values()))


def start_host(locations: Locations, samples: Path, every: int) -> subprocess.Popen[bytes]:
    """The host that keeps a sample; clients find it as any other."""
    folders = [f"--{name}={getattr(locations, name)}" for name in Locations.__slots__]
    settings = EngineSettings(
        threads=THREADS, context_tokens=CONTEXT_TOKENS, idle_exit_s=3600, idle_unload_s=3600
    )
    told = ["--settings", json.dumps(dataclasses.asdict(settings))]
    command = [sys.executable, __file__, "--serve", str(samples), "--every", str(every)]
    process = subprocess.Popen([*command, "--", *folders, *told])
    limit_s = time.monotonic() + 60
    while not locations.socket.exists():
        if process.poll() is not None or time.monotonic() > limit_s:
            raise SystemExit(f"the host did not start; see {locations.engine_log}")
        time.sleep(0.05)
    return process


def verified(samples: Path, most: int) -> dict[str, Any]:
    """``replay.verify`` in a process of its own: here llama.cpp's threads would spin."""
    command = [sys.executable, __file__, "--verify", str(samples), "--samples", str(most)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout))


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All figures."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    with tempfile.TemporaryDirectory(prefix="flex-soak-") as folder:
        home, samples = Path(folder), Path(folder) / "samples.jsonl"
        samples.touch()
        # Some more than are needed: those that are cancelled leave no answer.
        every = max(1, int(arguments.requests / (SAMPLES * 1.5)))
        host = start_host(below(home), samples, every)
        try:
            driven = asyncio.run(drive(arguments, home))
            code = host.wait(30)
        finally:
            host.kill()
        replayed = verified(samples, arguments.samples)
    holds = {
        "no_wrong_answer": replayed["wrong"] == 0 and replayed["samples"] == arguments.samples,
        "wrong_weights_would_be_seen": replayed["controls_that_differ"] > 0,
        "rss_growth_at_most_2_percent": driven["rss_growth"] <= 0.02,
        "no_leaked_sequences": replayed["contexts_closed"] > 0
        and (replayed["leaked_sequences"], replayed["contexts_left"]) == (0, 0),
        "ended_well": code == 0,
        "all_answered": not driven["errors"] + driven["requests_left"],
    }
    return {**driven, **replayed, "holds": holds}


def main() -> int:
    """Measure and write ``docs/bars/soak.json``; 1 if a bar does not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--try", dest="trial", action="store_true", help="print, write nothing")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--verify", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--every", type=int, help=argparse.SUPPRESS)
    parser.add_argument("rest", nargs="*", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        return replay.serve(arguments.rest, arguments.serve, arguments.every)
    if arguments.verify:
        given = arguments.verify, arguments.samples, CONTEXT_TOKENS, THREADS
        print(json.dumps(replay.verify(*given)))
        return 0
    figures = {"command": bars.command("soak"), **measure(arguments)}
    return bars.finish("soak", figures, figures["holds"], store=not arguments.trial)


if __name__ == "__main__":
    sys.exit(main())
