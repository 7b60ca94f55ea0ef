"""The measure itself: the person who types, llama.vim's rules, the prompts."""

import asyncio
import random
from pathlib import Path
from typing import Any, cast

import pytest

from flex_assist.errors import EngineError
from flex_assist.models.fim import FimTokens
from flex_lsp.bench import trace as traces
from flex_lsp.bench.calls import Calls, percentile
from flex_lsp.bench.infill import Infill
from flex_lsp.bench.ring import Ring
from flex_lsp.bench.server import LlamaServer
from flex_lsp.bench.trace import Key, Trace, TracedEdit, TracedFile
from flex_lsp.bench.typist import Buffer, Screen, replay, right
from flex_lsp.bench.vim import Vim

FIM = FimTokens(suffix_id=1, prefix_id=2, middle_id=3, end_id=0)
PAUSE_MS = 300
TIMINGS = {"prompt_n": 5, "prompt_ms": 1.0, "predicted_n": 2, "predicted_ms": 2.0}


def one_edit(text: str, pauses_ms: dict[str, int], old: str = "a = 1\n") -> Trace:
    keys = tuple(Key(text=one, pause_ms=pauses_ms.get(one, 1)) for one in text)
    edit = TracedEdit(file=0, offset=len(old), delete=0, pause_ms=1, keys=keys)
    file = TracedFile(path="a.py", language_id="python", text=old)
    return Trace(name="one", files=(file,), edits=(edit,))


class Knowing:
    """A side that shows what it was told, at once."""

    def __init__(self, shown: dict[str, str]) -> None:
        self.screen, self.shown = Screen(), shown
        self.texts: list[str] = []

    async def open(self, buffer: Buffer) -> None:
        pass

    def entered(self, buffer: Buffer) -> None:
        pass

    def changed(self, buffer: Buffer, deleted: int, inserted: str) -> None:
        self.texts.append(buffer.text)
        last_line = buffer.text[: buffer.cursor].rpartition("\n")[2]
        self.screen.show(self.shown.get(last_line, ""))


@pytest.mark.parametrize(
    ("shown", "rest", "taken"),
    [
        ("return 1", "return 1\nx", "return 1"),
        ("return 2", "return 1", ""),
        ("return 1\n    y", "return 1\nx", "return 1"),
        ("return\n    y", "return 1\nx", ""),
        ("abc", "abcdef", ""),
        ("      ", "       x", ""),
        ("return 1 + 2", "return 1", ""),
    ],
)
def test_only_what_is_right_and_worth_it_is_taken(shown: str, rest: str, taken: str) -> None:
    assert right(shown, rest) == taken


async def test_at_a_pause_what_is_right_is_accepted_and_not_typed() -> None:
    trace = one_edit("bc = 12345; d", {"c": PAUSE_MS, "b": 1})
    side = Knowing({"bc": " = 12345;", "b": "c = 12345; d"})
    buffer = Buffer(file=trace.files[0], text=trace.files[0].text)
    outcome = await replay(trace, side, [buffer])
    # After "b" there was no time to look.
    assert side.texts[:3] == ["a = 1\nb", "a = 1\nbc", "a = 1\nbc = 12345;"]
    assert buffer.text == "a = 1\nbc = 12345; d"
    assert (outcome.accepted, outcome.accepted_characters) == (1, 9)
    assert (outcome.keys, outcome.characters) == (4, 13)
    assert len(side.screen.times_ms) == 2


async def test_what_came_too_late_to_be_read_is_not_accepted() -> None:
    trace = one_edit("bcdefgh", {"b": PAUSE_MS})

    class Late(Knowing):
        def changed(self, buffer: Buffer, deleted: int, inserted: str) -> None:
            if buffer.text.endswith("\nb"):
                loop = asyncio.get_running_loop()
                loop.call_later(0.22, self.screen.show, "cdefgh")

    outcome = await replay(trace, Late({}), [Buffer(file=trace.files[0], text="a = 1\n")])
    assert outcome.accepted == 0
    assert outcome.keys == 7


def test_the_trace_that_comes_along_can_be_typed(tmp_path: Path) -> None:
    trace = traces.read(traces.FOLDER / "history.json")
    assert {one.language_id for one in trace.files} == {"python", "javascript"}
    assert len({edit.file for edit in trace.edits}) == 2
    texts = [one.text for one in trace.files]
    for edit in trace.edits:
        text = texts[edit.file]
        assert 0 <= edit.offset <= len(text) - edit.delete
        texts[edit.file] = text[: edit.offset] + edit.text + text[edit.offset + edit.delete :]
    assert all(one.text != text for one, text in zip(trace.files, texts, strict=True))
    traces.write(trace, tmp_path / "again.json")
    assert traces.read(tmp_path / "again.json") == trace
    short = trace.shortened(20)
    spent_ms = sum(edit.pause_ms + sum(key.pause_ms for key in edit.keys) for edit in short.edits)
    assert 0 < short.characters < trace.characters
    assert spent_ms <= 20_000


class Server:
    """Answers with what it is told, and notes the questions."""

    def __init__(self, answers: list[str]) -> None:
        self.answers, self.asked = answers, []  # type: list[str], list[dict[str, Any]]

    def post(self, path: str, body: dict[str, Any]) -> Any:
        self.asked.append(body)
        content = self.answers.pop(0) if self.answers else ""
        return {"content": content, "timings": TIMINGS}


def vim(answers: list[str]) -> tuple[Vim, Server]:
    server = Server(answers)
    infill = Infill(
        lambda text: [100 + ord(one) for one in text], FIM,
        context_tokens=2048, batch_tokens=1024, predicted_tokens=128,
    )  # fmt: skip
    return Vim(cast(LlamaServer, server), infill), server


def asked_text(body: dict[str, Any]) -> str:
    return "".join(chr(one - 100) if one >= 100 else "|" for one in body["prompt"])


async def typed(side: Vim, buffer: Buffer, text: str) -> None:
    buffer.replace(0, text)
    side.screen.key()
    side.changed(buffer, 0, text)
    for _ in range(10):
        await asyncio.sleep(0.01)


async def test_llama_vim_asks_shows_and_asks_ahead() -> None:
    side, server = vim(["tems:", "\n    pass"])
    buffer = Buffer(file=TracedFile(path="a.py", language_id="python", text=""), text="x\n\n")
    buffer.cursor = 2
    await typed(side, buffer, "for i in i")
    assert side.screen.text == "tems:"
    assert [asked_text(one) for one in server.asked] == [
        "|\n\n|x\nfor i in i",
        "|\n\n|x\nfor i in items:",
    ]
    assert [one["t_max_predict_ms"] for one in server.asked] == [250, 1000]
    assert (side.calls.started, side.calls.ahead, side.calls.cache_hits) == (2, 1, 0)
    assert (len(side.calls.times_ms), len(side.calls.waited_ms)) == (2, 1)
    # Typing on with what was suggested asks nothing more, and the rest is shown at once.
    await typed(side, buffer, "te")
    assert side.screen.text == "ms:"
    assert side.calls.cache_hits == 1
    await typed(side, buffer, "ms:")
    assert side.screen.text == "\n    pass"
    assert side.calls.cache_hits == 2
    # Another way than suggested: the server is asked.
    started = side.calls.started
    await typed(side, buffer, " y")
    assert side.calls.started > started
    await side.close()


async def test_llama_vim_does_not_ask_in_the_middle_of_a_line() -> None:
    side, server = vim(["no"])
    text = "call(first, second)\n"
    buffer = Buffer(file=TracedFile(path="a.py", language_id="python", text=text), text=text)
    buffer.cursor = 5
    await typed(side, buffer, "a")
    assert server.asked == []
    await side.close()


async def test_llama_vim_shows_nothing_that_stands_below() -> None:
    side, _ = vim(["b = 2"])
    text = "a = 1\n\nb = 2\nc = 3\n"
    buffer = Buffer(file=TracedFile(path="a.py", language_id="python", text=text), text=text)
    buffer.cursor = 5
    await typed(side, buffer, "\n")
    assert side.screen.text == ""
    await side.close()


async def test_a_failed_request_ends_the_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    side, server = vim([])
    buffer = Buffer(file=TracedFile(path="a.py", language_id="python", text=""), text="x\n")
    buffer.cursor = 1
    await typed(side, buffer, "y")
    side.check()

    def fail(path: str, body: dict[str, Any]) -> Any:
        raise EngineError("gone")

    monkeypatch.setattr(server, "post", fail)
    await typed(side, buffer, "z")
    with pytest.raises(EngineError, match="gone"):
        side.check()
    await side.close()


def test_prompts_fit_the_batch() -> None:
    infill = Infill(
        lambda text: [100] * len(text), FIM,
        context_tokens=2048, batch_tokens=1024, predicted_tokens=128,
    )  # fmt: skip
    prompt = infill.prompt("x" * 5000, "y" * 10, "z" * 5000, [("a.py", "w" * 5000)])
    extra = prompt.index(FIM.suffix_id)
    assert extra == 2048 - 1024 - 2 * 128
    assert len(prompt) - extra <= 1024
    # The least of contexts leaves no room for other places.
    small = Infill(
        lambda text: [100] * len(text), FIM,
        context_tokens=512, batch_tokens=1024, predicted_tokens=128,
    )  # fmt: skip
    assert small.prompt("x" * 5000, "", "z" * 5000, [("a.py", "w")])[0] == FIM.suffix_id


def test_the_ring_waits_until_nobody_types(monkeypatch: pytest.MonkeyPatch) -> None:
    ring = Ring(random.Random(0))
    lines = [f"line {number}" for number in range(30)]
    ring.pick(lines, 3, "a.py")
    ring.pick(lines, 3, "a.py")
    assert ring.texts() == []
    ring.moved()
    assert not ring.take()
    monkeypatch.setattr("flex_lsp.bench.ring.IDLE_S", 0.0)
    assert ring.take()
    assert not ring.take()
    assert [path for path, _ in ring.texts()] == ["a.py"]
    # What stands at the cursor would only be repeated.
    ring.drop_like(lines, 3)
    assert ring.texts() == []


def test_percentiles() -> None:
    assert percentile([], 50) is None
    assert percentile([3.0], 95) == 3.0
    assert percentile([float(number) for number in range(101)], 95) == 95.0
    assert Calls().record()["p50_ms"] is None
