"""The engine host: memory with three clients, completion beside a chat, cancelling, being killed.

``--parts memory,chat,cancel,kill`` measures some of it; what was measured before is kept.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import bars
import psutil

from flex_assist.config import EngineSettings
from flex_assist.engine.client import HostEngine
from flex_assist.engine.local import LocalEngine
from flex_assist.engine.protocol import Finished, GenerateRequest, Priority, Weights
from flex_assist.errors import Cancelled, FlexAssistError
from flex_assist.locations import Locations, below, locate
from flex_assist.models import store

BASE: Final = "smollm2-135m"
SETTINGS: Final = EngineSettings(threads=2)
PROMPT_TOKENS, NEW_TOKENS, ANSWER_TOKENS, CHAT_TOKENS = 320, 4, 16, 1200
CLIENTS, KILLED_REQUESTS = 3, 50
# Of each of the memory's clients.
CLIENT_REQUESTS = 12


def model() -> Path:
    """The starter as it is served."""
    return store.serving_path(BASE, locate())


def prompt(seed: int, length: int = PROMPT_TOKENS) -> tuple[int, ...]:
    """Tokens of no meaning, the same for the same seed."""
    random_ = random.Random(seed)
    return tuple(random_.randrange(1000, 40000) for _ in range(length))


def request(tokens: tuple[int, ...], **changes: Any) -> GenerateRequest:
    """A completion."""
    given: dict[str, Any] = {"max_tokens": ANSWER_TOKENS, **changes}
    return GenerateRequest(weights=Weights(model=model()), tokens=tokens, **given)


async def answer(engine: HostEngine | LocalEngine, asked: GenerateRequest) -> Finished:
    """The whole answer."""
    last = None
    async for item in engine.generate(asked):
        last = item
    assert isinstance(last, Finished)
    return last


@contextlib.asynccontextmanager
async def hosted(clients: int = 1) -> AsyncIterator[tuple[Locations, list[HostEngine]]]:
    """A host in a home of its own, with the model in memory, and its clients."""
    with tempfile.TemporaryDirectory(prefix="flex-host-") as home:
        locations = below(Path(home))
        engines = [HostEngine(locations, SETTINGS) for _ in range(clients)]
        await engines[0].warm(Weights(model=model()))
        try:
            yield locations, engines
        finally:
            for engine in engines[1:]:
                await engine.close()
            await engines[0].stop_host()
            await engines[0].close()


async def memory() -> dict[str, Any]:
    """Memory of the host, and of it and its clients, which are processes of their own.

    One client with a document, one with three, and three with one each at the same time. What the
    host keeps of a document is bounded by ``engine.prefixes_mb``, whoever has it open: so the host
    is compared with that of the first, and all processes with the second, which does the same work.
    Pages that several processes share count once in the sum (PSS), where the system tells them.
    """
    every = list(range(CLIENTS))
    one = await _most_memory([every[:1]])
    alone = await _most_memory([every])
    several = await _most_memory([[seed] for seed in every])
    host, all_of_them = several[0] / one[0], several[1] / alone[1]
    return {
        "clients": CLIENTS,
        "host_mb": {"one": one[0], "one_with_all_documents": alone[0], "several": several[0]},
        "host_and_clients_mb": {
            "one": one[1], "one_with_all_documents": alone[1], "several": several[1],
        },
        "ratio": round(host, 3), "ratio_with_clients": round(all_of_them, 3),
        "ratio_with_clients_to_one_document": round(several[1] / one[1], 3),
        "holds": host <= 1.15 and all_of_them <= 1.15,
    }  # fmt: skip


async def _most_memory(documents: list[list[int]]) -> list[float]:
    """The most that the host, and that it and its clients had, in MB: a client for each list."""
    async with hosted() as (locations, (engine, *_)):
        process = psutil.Process((await engine.status())["process"])
        command = [sys.executable, __file__, "--client", str(locations.runtime.parent), "--seeds"]
        clients = [
            subprocess.Popen([*command, ",".join(map(str, seeds))], stdout=subprocess.PIPE)
            for seeds in documents
        ]
        most = [0.0, 0.0]
        while any(client.poll() is None for client in clients):
            now = process.memory_info().rss
            ids = [process.pid, *(client.pid for client in clients)]
            most = [max(most[0], now), max(most[1], sum(map(_held, ids)))]
            await asyncio.sleep(0.05)
        assert all(client.wait() == 0 for client in clients)
    return [round(size / 1e6, 1) for size in most]


def _held(process: int) -> int:
    """What a process costs the machine, in bytes; nothing if it has ended."""
    try:
        found = psutil.Process(process).memory_full_info()
    except psutil.Error:
        return 0
    return int(getattr(found, "pss", found.rss))


async def client(home: Path, seeds: list[int]) -> int:
    """What an editor does: completions in documents of its own, in turn."""
    engine = HostEngine(below(home), SETTINGS)
    for at in range(CLIENT_REQUESTS):
        for seed in seeds:
            longer = prompt(seed) + prompt(seed + 100, at * NEW_TOKENS + 1)
            await answer(engine, request(longer, document=f"file-{seed}"))
    await engine.close()
    return 0


async def chat(rounds: int) -> dict[str, Any]:
    """Completions on an idle host and, in turn, while a chat is answered."""
    times: dict[str, list[float]] = {"idle": [], "chatting": []}
    async with hosted(2) as (_, (engine, talker)):
        tokens = prompt(1)
        await answer(engine, request(tokens))
        for at in range(rounds):
            kind = "chatting" if at % 2 else "idle"
            talk = asyncio.create_task(_talk(talker)) if at % 2 else None
            await asyncio.sleep(1.0 if talk else 0.1)
            for _ in range(10):
                tokens += prompt(at, NEW_TOKENS)
                tokens = tokens if len(tokens) < 900 else prompt(1)
                began_s = time.perf_counter()
                done = await answer(engine, request(tokens))
                if done.reused_tokens:
                    times[kind].append((time.perf_counter() - began_s) * 1000)
                await asyncio.sleep(0.05)
            if talk is not None:
                assert not talk.done(), "the chat ended too early"
                talk.cancel()
                await asyncio.gather(talk, return_exceptions=True)
    p95 = {kind: _percentile(values, 0.95) for kind, values in times.items()}
    p50 = {kind: round(statistics.median(values), 1) for kind, values in times.items()}
    ratio = p95["chatting"] / p95["idle"]
    return {
        "completions": {kind: len(values) for kind, values in times.items()},
        "p50_ms": p50, "p95_ms": p95, "ratio_p95": round(ratio, 3),
        "ratio_p50": round(p50["chatting"] / p50["idle"], 3), "holds": ratio <= 1.5,
    }  # fmt: skip


async def _talk(engine: HostEngine) -> None:
    asked = request(prompt(7, 400), max_tokens=CHAT_TOKENS, priority=Priority.CHAT, temperature=1.0)
    while True:
        await answer(engine, dataclasses.replace(asked, seed=random.randrange(1000)))


async def cancel(rounds: int) -> dict[str, Any]:
    """From the cancel to the end of the computing, at random moments; then the state."""
    engine = LocalEngine(SETTINGS)
    asked, sure = request(prompt(1), max_tokens=200), request(prompt(2, 64))
    expected = (await answer(engine, sure)).text
    stopped_ms, wrong, random_ = [], 0, random.Random(1)
    for at in range(rounds):
        tokens = prompt(10 + at)
        task = asyncio.create_task(answer(engine, dataclasses.replace(asked, tokens=tokens)))
        await asyncio.sleep(0.02 + random_.random())
        if task.done():
            continue
        began_s = time.perf_counter()
        task.cancel()
        while (await engine.status())["queue"]["completion"]:
            # Not 0: a loop that never rests keeps the interpreter from the worker.
            await asyncio.sleep(0.0005)
        stopped_ms.append((time.perf_counter() - began_s) * 1000)
        await asyncio.gather(task, return_exceptions=True)
        # Nothing of it is reused, so the answer is that of an empty context.
        wrong += (await answer(engine, sure)).text != expected
    await engine.close()
    p95 = _percentile(stopped_ms, 0.95)
    return {
        "cancelled": len(stopped_ms), "p50_ms": _percentile(stopped_ms, 0.5), "p95_ms": p95,
        "most_ms": round(max(stopped_ms), 2), "wrong_answers_after": wrong,
        "holds": p95 <= 10 and not wrong,
    }  # fmt: skip


async def kill(rounds: int) -> dict[str, Any]:
    """kill -9 in the middle of 50 requests of five clients; until each is served again.

    That is when all have told their 50 what became of them and speak to the same new host. How long
    five answers then take, with a cold model and one after the other, is told beside it.
    """
    recovered_s, answers_s, lost, answered, unclear = [], [], 0, 0, 0
    async with hosted(5) as (_, engines):
        right = (await answer(engines[0], request(prompt(1)))).text
        for at in range(rounds):
            pending = [
                asyncio.create_task(
                    answer(engines[number % 5], request(prompt(number), heal=False))
                )
                for number in range(KILLED_REQUESTS)
            ]
            await asyncio.sleep(0.5 + at * 0.7 % 2)
            os.kill((await engines[0].status())["process"], signal.SIGKILL)
            began_s = time.monotonic()
            async with asyncio.timeout(30):
                given = await asyncio.gather(*pending, return_exceptions=True)
                hosts = await asyncio.gather(*(one.status() for one in engines))
                recovered_s.append(time.monotonic() - began_s)
                again = await asyncio.gather(*(answer(one, request(prompt(1))) for one in engines))
                answers_s.append(time.monotonic() - began_s)
            unclear += len({one["process"] for one in hosts}) - 1
            answered += sum(isinstance(one, Finished) for one in given)
            clear = [one for one in given if isinstance(one, FlexAssistError)]
            lost += len(clear)
            unclear += sum(
                isinstance(one, Cancelled) or "ask again" not in str(one) for one in clear
            )
            unclear += len(given) - len(clear) - sum(isinstance(one, Finished) for one in given)
            unclear += sum(one.text != right for one in again)
    return {
        "kills": rounds, "requests": rounds * KILLED_REQUESTS, "answered": answered,
        "told_to_ask_again": lost, "unclear_or_wrong": unclear,
        "recovered_s": {"median": round(statistics.median(recovered_s), 2),
                        "most": round(max(recovered_s), 2)},
        "all_five_answered_s": {"median": round(statistics.median(answers_s), 2),
                                "most": round(max(answers_s), 2)},
        "holds": max(recovered_s) <= 3 and not unclear and lost > 0,
    }  # fmt: skip


def _percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))], 2)


PARTS: Final = ("memory", "chat", "cancel", "kill")


def measure(part: str, trial: bool) -> dict[str, Any]:
    """One of the parts."""
    share = 0.1 if trial else 1.0
    work = {
        "memory": memory,
        "chat": lambda: chat(max(2, int(24 * share))),
        "cancel": lambda: cancel(int(100 * share)),
        "kill": lambda: kill(max(1, int(10 * share))),
    }
    return asyncio.run(work[part]())


def keep(part: str, figures: dict[str, Any]) -> None:
    """Write a part's figures beside those of the others."""
    path = bars.FOLDER / "host.json"
    before = json.loads(path.read_text()) if path.is_file() else {}
    kept = {name: before[name] for name in PARTS if name in before}
    bars.write("host", {"command": "make bars-host", **kept, part: figures})


def main() -> int:
    """Measure and write ``docs/bars/host.json``; 1 if a bar does not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--try", dest="trial", action="store_true", help="a tenth; write nothing")
    parser.add_argument("--client", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--seeds", default="0", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.client:
        return asyncio.run(
            client(arguments.client, [int(one) for one in arguments.seeds.split(",")])
        )
    holds = True
    for part in arguments.parts.split(","):
        figures = measure(part, arguments.trial)
        holds = holds and figures["holds"]
        if arguments.trial:
            print(json.dumps({part: figures}, indent=2), flush=True)
        else:
            keep(part, figures)
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
