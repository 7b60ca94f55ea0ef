"""The other side: llama.cpp's server, asked as the plugin llama.vim asks it.

Its defaults and its rules, in an editor that is not there: at each key it looks into its cache
(also as far as 128 characters back, where what was typed since is what was suggested), asks the
server unless it knows or a request is under way (then again after 100 ms), and while something is
shown asks for what would come after it.

Two things differ, both in its favour: a request does not start a process of its own, and the
prompt is laid out in the order that the model was taught (``flex_lsp.bench.infill``).
"""

import asyncio
import random
import re
import time
from dataclasses import dataclass
from typing import Any, Final

from flex_assist.errors import EngineError
from flex_lsp.bench.calls import Calls
from flex_lsp.bench.infill import Infill
from flex_lsp.bench.ring import Ring
from flex_lsp.bench.server import LlamaServer
from flex_lsp.bench.typist import Buffer, Screen

PREFIX_LINES, SUFFIX_LINES = 256, 64
PREDICTED_TOKENS = 128
# The first answer is to come soon; what would come after it has more time.
FIRST_MS, AHEAD_MS, PROMPT_MS = 250, 1000, 500
AGAIN_S: Final = 0.1
MOST_LINE_SUFFIX = 8
CACHED_KEYS = 250
LOOKED_BACK = 128
SAMPLING: Final[dict[str, Any]] = {
    "top_k": 40,
    "top_p": 0.90,
    "samplers": ["top_k", "top_p", "infill"],
    "cache_prompt": True,
    "stream": False,
    # Its own is another one each time; so that a run can be repeated.
    "seed": 0,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Local:
    """The text around a cursor, as the plugin cuts it."""

    prefix: str
    middle: str
    suffix: str
    line_after: str
    indent: int

    def known_as(self) -> list[tuple[str, str]]:
        """What an answer is kept under: also without the first lines, for further down the file."""
        found, prefix = [(self.prefix + self.middle, self.suffix)], self.prefix
        for _ in range(3):
            prefix = prefix.partition("\n")[2]
            if not prefix:
                break
            found.append((prefix + self.middle, self.suffix))
        return found


class Vim:
    """An editor with the plugin."""

    def __init__(self, server: LlamaServer, infill: Infill, seed: int = 0) -> None:
        self.screen = Screen()
        self.calls = Calls()
        self._server, self._infill = server, infill
        self._random = random.Random(seed)
        self._ring = Ring(self._random)
        self._cache: dict[tuple[str, str], str] = {}
        self._job: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._background: asyncio.Task[None] | None = None
        self._buffer: Buffer | None = None
        self._indent = 0
        self._faults: list[BaseException] = []

    def check(self) -> None:
        """Raises EngineError if any request failed: then nothing that was measured counts."""
        if self._faults:
            raise EngineError(f"llama.cpp's server failed: {self._faults[0]}")

    async def open(self, buffer: Buffer) -> None:
        """Nothing happens before the cursor is in the file."""

    def entered(self, buffer: Buffer) -> None:
        """Pieces around the cursor are kept, of the file that is left and of the one entered."""
        for one in (self._buffer, buffer):
            if one is not None:
                self._ring.pick(*self._around(one), one.file.path)
        self._buffer = buffer
        if self._background is None:
            self._background = asyncio.get_running_loop().create_task(self._feed_ring())
            self._background.add_done_callback(self._note_fault)

    def changed(self, buffer: Buffer, deleted: int, inserted: str) -> None:
        """The cursor has moved: look into the cache, then ask."""
        self._buffer = buffer
        self._ring.moved()
        self.calls.cache_hits += self._hint()
        self._ask(None)

    async def close(self) -> None:
        """Stop asking."""
        if self._timer is not None:
            self._timer.cancel()
        for task in (self._job, self._background):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    # --- asking -----------------------------------------------------------------------------

    def _ask(self, shown: str | None) -> None:
        """Ask for the cursor, or for where it would be after ``shown``."""
        if self._job is not None:
            if self._timer is not None:
                self._timer.cancel()
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(AGAIN_S, self._ask, shown)
            return
        assert self._buffer is not None
        local = self._local(self._buffer, shown)
        if len(local.line_after) > MOST_LINE_SUFFIX:
            return
        if any(key in self._cache for key in local.known_as()):
            return
        self._indent = local.indent
        lines, line = self._around(self._buffer)
        self._ring.drop_like(lines, line)
        self._job = asyncio.get_running_loop().create_task(self._request(local, shown is not None))
        self._job.add_done_callback(self._note_fault)
        self._ring.gather(self._buffer.text.split("\n"), self._row(), self._buffer.file.path)

    async def _request(self, local: Local, ahead: bool) -> None:
        started_s = time.perf_counter()
        self.calls.started += 1
        self.calls.ahead += ahead
        try:
            body = {
                "prompt": self._infill.prompt(
                    local.prefix, local.middle, local.suffix, self._ring.texts()
                ),
                "n_predict": PREDICTED_TOKENS,
                "n_indent": local.indent,
                "t_max_prompt_ms": PROMPT_MS,
                "t_max_predict_ms": AHEAD_MS if ahead else FIRST_MS,
                **SAMPLING,
            }
            answer = await asyncio.to_thread(self._server.post, "/completion", body)
        finally:
            self._job = None
        self.calls.answered(started_s, ahead=ahead)
        timings = answer["timings"]
        self.calls.prompt_tokens += int(timings["prompt_n"])
        self.calls.completion_tokens += int(timings["predicted_n"])
        self.calls.prefill_ms.append(float(timings["prompt_ms"]))
        self.calls.decode_ms.append(float(timings["predicted_ms"]))
        for key in local.known_as():
            self._keep(key, str(answer["content"]))
        if not self.screen.text:
            self._hint()

    async def _feed_ring(self) -> None:
        """Once a second, while nothing is typed: the server reads the pieces ahead."""
        while True:
            await asyncio.sleep(self._ring.update_s)
            if not self._ring.take():
                continue
            body = {"prompt": self._infill.prompt("", "", "", self._ring.texts()), "n_predict": 0}
            answer = await asyncio.to_thread(self._server.post, "/completion", body | SAMPLING)
            self.calls.prompt_tokens += int(answer["timings"]["prompt_n"])

    def _note_fault(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._faults.append(error)

    # --- the cache --------------------------------------------------------------------------

    def _keep(self, key: tuple[str, str], content: str) -> None:
        if len(self._cache) > CACHED_KEYS - 1:
            del self._cache[self._random.choice(list(self._cache))]
        self._cache[key] = content

    def _hint(self) -> bool:
        """Show what the cache knows for the cursor; whether that was something."""
        assert self._buffer is not None
        local = self._local(self._buffer, None)
        content = self._known(local.prefix + local.middle, local.suffix)
        if content is None:
            return False
        shown = self._rendered(content)
        self.screen.show(shown if shown.strip() else "")
        # It asks ahead whatever is shown, if that is nothing too.
        self._ask(shown + local.line_after)
        return bool(shown.strip())

    def _known(self, before: str, suffix: str) -> str | None:
        found = self._cache.get((before, suffix))
        if found is not None:
            return found
        best: str | None = None
        for back in range(1, min(LOOKED_BACK, len(before)) + 1):
            content = self._cache.get((before[:-back], suffix))
            if not content or content[:back] != before[-back:]:
                continue
            rest = content[back:]
            if rest and (best is None or len(rest) > len(best)):
                best = rest
        return best

    # --- the text ---------------------------------------------------------------------------

    def _row(self) -> int:
        assert self._buffer is not None
        return self._buffer.text.count("\n", 0, self._buffer.cursor)

    def _around(self, buffer: Buffer) -> tuple[list[str], int]:
        return buffer.text.split("\n"), buffer.text.count("\n", 0, buffer.cursor)

    def _local(self, buffer: Buffer, shown: str | None) -> Local:
        before, after = buffer.text[: buffer.cursor], buffer.text[buffer.cursor :]
        *above, line_before = before.split("\n")
        # The break at a file's end begins no line, in this editor.
        line_after, *below = after.removesuffix("\n").split("\n")
        indent = len(line_before) - len(line_before.lstrip())
        if shown is not None:
            added = shown.split("\n")
            whole = line_before + line_after
            if len(added) == 1:
                line_before = whole + added[0]
            else:
                # The lines of the suggestion stand above already.
                above = [*above, whole + added[0], *added[1:-1]]
                line_before = added[-1]
            line_after, indent = "", self._indent
        elif not (line_before + line_after).strip():
            line_before = line_after = ""
            indent = 0
        return Local(
            prefix="\n".join(above[-PREFIX_LINES:]) + "\n",
            middle=line_before,
            suffix=line_after + "\n" + "\n".join(below[:SUFFIX_LINES]) + "\n",
            line_after=line_after,
            indent=indent,
        )

    def _rendered(self, content: str) -> str:
        """What of an answer is shown at the cursor."""
        assert self._buffer is not None
        lines = content.rstrip("\n").split("\n") if content.rstrip("\n") else [""]
        text, cursor = self._buffer.text, self._buffer.cursor
        line_before = text[:cursor].rpartition("\n")[2]
        line_after, *below = text[cursor:].removesuffix("\n").split("\n")
        if not (line_before + line_after).strip():
            white = len(lines[0]) - len(lines[0].lstrip())
            # The line's own white space is there already.
            lines[0] = lines[0][min(white, len(line_before + line_after)) :]
        return "" if _repeats(lines, line_before, line_after, below) else "\n".join(lines)


def _repeats(lines: list[str], line_before: str, line_after: str, below: list[str]) -> bool:
    """Whether an answer says only what stands there already, by the plugin's rules."""
    if len(lines) > 1 and lines[0] == "" and lines[1:] == below[: len(lines) - 1]:
        return True
    if len(lines) == 1 and lines[0] == line_after:
        return True
    at = next((at for at, line in enumerate(below[:-1]) if not re.fullmatch(r"\s*", line)), None)
    at = max(0, len(below) - 1) if at is None else at
    if not below or line_before + lines[0] != below[at]:
        return False
    following = below[at + 1 :]
    if len(lines) == 1:
        return True
    if len(lines) == 2:
        return bool(following) and following[0].startswith(lines[-1])
    return lines[1:] == following[: len(lines) - 1]
