"""The real server process over a scripted model, so that a test can say what must come when.

The line before the cursor rules: ``slow`` never answers, ``nothing`` gives no text, ``fail`` fails
as an engine does, ``bug`` as our own mistakes do; anything else is answered with an echo of it.
Cancelled answers are noted in a file, by the name in ``SCRIPTED_LOG``.
"""

import asyncio
import os
import sys
from pathlib import Path

from flex_assist.complete.request import Completion, CompletionRequest
from flex_assist.config import Settings
from flex_assist.errors import EngineError
from flex_assist.locations import locate
from flex_lsp import transport
from flex_lsp.greeting import greet
from flex_lsp.server import FlexServer
from flex_lsp.streams import claim_standard_streams


class ScriptedService:
    """Completes by the script."""

    async def complete(self, request: CompletionRequest) -> Completion:
        print("a stray print of some library")
        os.write(1, b"a stray write of native code\n")
        line = request.before.rsplit("\n", 1)[-1]
        if "slow" in line:
            await self._never(line)
        if "fail" in line:
            raise EngineError("the engine is not well: start it again")
        if "bug" in line:
            raise KeyError(line)
        text = "" if "nothing" in line else f" # {line}|{request.after}|{request.path}"
        return Completion(
            text=text, language=request.language_id, adapter="base", reason="scripted"
        )

    async def _never(self, line: str) -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            with Path(os.environ["SCRIPTED_LOG"]).open("a") as log:
                log.write(f"cancelled {line}\n")
            raise

    def recall(self, request: CompletionRequest) -> Completion | None:
        return None

    def prepare(self, request: CompletionRequest) -> None:
        pass

    async def warm(self, language: str | None) -> None:
        await asyncio.sleep(float(os.environ.get("SCRIPTED_WARM_S", "0")))

    def refresh(self) -> None:
        pass


class ScriptedBackend:
    """Gives scripted services."""

    async def prepare(self) -> None:
        pass

    def service(self, settings: Settings, root: Path | None) -> ScriptedService:
        return ScriptedService()

    async def close(self) -> None:
        pass


async def main() -> int:
    streams = claim_standard_streams()
    first = greet(streams)
    return await transport.serve_streams(FlexServer(locate(), ScriptedBackend()), streams, first)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
