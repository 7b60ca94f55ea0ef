"""What a server costs beside this machine's engine host: llama.cpp's, on this very machine."""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import bars

from flex_assist.config import EngineSettings
from flex_assist.engine.client import HostEngine
from flex_assist.engine.protocol import Engine, GenerateRequest, TextPiece, Weights
from flex_assist.engine.remote import outbound
from flex_assist.engine.remote.engine import RemoteEngine
from flex_assist.locations import Locations
from flex_assist.models import store
from flex_assist.remote_settings import RemoteSettings
from flex_assist.repository.outgoing import Outgoing

ROOT = Path(__file__).parents[2]
SERVER = ROOT / "tests" / "integration" / "export" / "llama_server.py"
SOURCE = (ROOT / "flex_assist" / "engine" / "client.py").read_text(encoding="utf-8")
PROMPT_CHARACTERS, STEP, TOKENS = 2400, 7, 8


async def measure(runs: int, home: Path) -> dict[str, Any]:
    """Medians over ``runs`` keystrokes: each prompt goes on a little further than the last."""
    locations = Locations(config=home, data=home / "d", cache=home / "c", runtime=home / "r")
    model = store.serving_path("smollm2-135m", locations)
    with subprocess.Popen(
        [sys.executable, str(SERVER), str(model), "--context", "2048"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as server:  # fmt: skip
        assert server.stdout is not None
        address = next(line for line in server.stdout if line.startswith("http")).strip()
        host = HostEngine(locations, EngineSettings(threads=1))
        remote = RemoteEngine(
            RemoteSettings(url=address + "/v1", fallback=False, first_timeout_s=60), host
        )
        try:
            prompts = [await _prompt(host, model, number) for number in range(runs + 1)]
            spelled = await host.spell(model, prompts[0].tokens)
            outgoing = Outgoing(ROOT)
            await outgoing.objection("flex_assist/config.py", SOURCE)
            return {
                "prompt_tokens": len(prompts[0].tokens),
                "host_ms": await _median_ms(host, prompts),
                "remote_ms": await _median_ms(remote, prompts),
                "secrets_in_prompt_ms": await _timed(
                    lambda: asyncio.to_thread(outbound.secret_in, spelled), runs
                ),
                "file_may_leave_ms": await _timed(
                    lambda: outgoing.objection("flex_assist/config.py", SOURCE), runs
                ),
                "hang_up_ms": await _hang_up_ms(remote, prompts[0], runs),
                "runs": runs,
            }
        finally:
            await remote.close()
            await host.stop_host()
            server.kill()


async def _prompt(engine: Engine, model: Path, number: int) -> GenerateRequest:
    text = SOURCE[: PROMPT_CHARACTERS + STEP * number]
    [tokens] = await engine.tokenize(model, [TextPiece(text=text)])
    return GenerateRequest(weights=Weights(model=model), tokens=tuple(tokens), max_tokens=TOKENS)


async def _median_ms(engine: Engine, prompts: list[GenerateRequest]) -> float:
    """Of all but the first, which fills the cache."""
    taken = []
    for request in prompts:
        started = time.perf_counter()
        async with aclosing(engine.generate(request)) as items:
            async for _ in items:
                pass
        taken.append((time.perf_counter() - started) * 1000)
    return round(statistics.median(taken[1:]), 1)


async def _timed(call: Callable[[], Awaitable[object]], runs: int) -> float:
    taken = []
    for _ in range(runs):
        started = time.perf_counter()
        await call()
        taken.append((time.perf_counter() - started) * 1000)
    return round(statistics.median(taken), 2)


async def _hang_up_ms(engine: RemoteEngine, request: GenerateRequest, runs: int) -> float:
    """From closing an answer to the first text of the next one: the server has let go by then."""
    taken = []
    for _ in range(runs):
        async with aclosing(engine.generate(replace(request, max_tokens=400))) as items:
            await anext(items)
            started = time.perf_counter()
        async with aclosing(engine.generate(replace(request, max_tokens=1))) as items:
            await anext(items)
        taken.append((time.perf_counter() - started) * 1000)
    return round(statistics.median(taken), 1)


def main() -> int:
    """Measure and write ``docs/bars/remote.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=40)
    with tempfile.TemporaryDirectory() as home:
        os.environ["FLEX_ASSIST_HOME"] = home
        found = asyncio.run(measure(parser.parse_args().runs, Path(home)))
    bars.write("remote", {"command": "make bars-remote", **found})
    return 0


if __name__ == "__main__":
    sys.exit(main())
