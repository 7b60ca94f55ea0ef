import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest

from flex_assist.adapters.registry import AdapterVersion, Registry
from flex_assist.chat.conversations import Message
from flex_assist.chat.service import SYSTEM, Answered, ChatService, Prepared
from flex_assist.config import ChatSettings, EngineSettings, ModelSettings, Settings
from flex_assist.engine.protocol import Piece, Priority
from flex_assist.errors import ConfigError, DataError, EngineError
from flex_assist.locations import Locations


@pytest.fixture
def locations(tmp_path: Path) -> Locations:
    home = tmp_path / "home"
    return Locations(
        config=home / "config", data=home / "data", cache=home / "cache", runtime=home / "run"
    )


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    path = tmp_path / "tiny.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tensor("token_embd.weight", np.zeros((2, 32), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return Settings(model=ModelSettings(base=str(path)))


@pytest.fixture
def root(project: Callable[..., Path]) -> Path:
    return project({"app.py": "x = 1\n", "main.go": "package main\n", "notes.txt": "note\n"})


@pytest.fixture
def service(engine, settings: Settings, locations: Locations, root: Path) -> Iterator[ChatService]:
    return ChatService(engine, settings, locations, root)


def user(text: str) -> Message:
    return Message(role="user", text=text)


def assistant(text: str) -> Message:
    return Message(role="assistant", text=text)


async def collect(
    service: ChatService, messages: Sequence[Message], choice: str = "auto"
) -> tuple[Prepared, str, Answered]:
    items = [item async for item in service.answer(messages, choice)]
    first, *pieces, last = items
    assert isinstance(first, Prepared)
    assert isinstance(last, Answered)
    assert all(isinstance(piece, Piece) for piece in pieces)
    return first, "".join(piece.text for piece in pieces), last


async def test_an_answer_streams_and_ends_with_numbers(service: ChatService, engine) -> None:
    prepared, text, last = await collect(service, [user("Why?")])
    assert text == last.text == "Here it is."
    assert prepared.prompt_tokens == last.prompt_tokens == len(engine.requests[0].tokens)
    assert prepared.context_tokens == 2048
    assert (last.tokens, last.tokens_per_s, last.ended) == (50, 100.0, "end")
    assert 0 < last.seconds < 5


async def test_the_prompt_is_the_conversation(service: ChatService, engine) -> None:
    messages = [user("one?"), assistant("first"), user("see @notes.txt")]
    await collect(service, messages)
    text = engine.text(engine.requests[0].tokens)
    assert text.startswith(f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\none?")
    assert "first<|im_end|>" in text
    assert "File `notes.txt`:\n```\nnote\n```\n\nsee @notes.txt<|im_end|>" in text
    assert text.endswith("<|im_start|>assistant\n")


async def test_requests_are_for_chat_and_bounded(
    engine, settings: Settings, locations: Locations, root: Path
) -> None:
    settings = replace(
        settings,
        engine=EngineSettings(context_tokens=256),
        chat=ChatSettings(max_tokens=200, temperature=0.7),
    )
    prepared, _, _ = await collect(ChatService(engine, settings, locations, root), [user("Why?")])
    request = engine.requests[0]
    assert request.priority is Priority.CHAT
    assert request.temperature == 0.7
    assert request.max_tokens == min(200, 256 - len(request.tokens))
    assert prepared.context_tokens == 256
    assert "<|im_end|>" in request.stop_texts


async def test_a_model_with_a_smaller_context_bounds_it(service: ChatService, engine) -> None:
    engine.context_tokens = 128
    prepared, _, _ = await collect(service, [user("Why?")])
    assert prepared.context_tokens == 128


@pytest.mark.parametrize(
    ("messages", "adapter"),
    [
        (["plain question"], "base"),
        (["@app.py"], "python"),
        (["@main.go"], "base"),
        (["@app.py", "and now?"], "python"),
        (["@app.py", "@main.go"], "base"),
        (["@notes.txt and @app.py"], "python"),
        (["```python\nx = 1\n```"], "python"),
        (["```py\nx = 1\n```"], "python"),
        (["```nothing\nx = 1\n```"], "base"),
    ],
)
async def test_the_adapter_follows_the_attached_language(
    service: ChatService, engine, locations: Locations, root: Path,
    promote: Callable[..., AdapterVersion], messages: list[str], adapter: str,
) -> None:  # fmt: skip
    lora = promote(Registry(locations, root), base_model="tiny").lora
    said = [part for text in messages for part in (user(text), assistant("ok"))][:-1]
    prepared, _, last = await collect(service, said)
    assert prepared.adapter == last.adapter == adapter
    assert prepared.reason
    assert engine.requests[0].weights.adapters == ((lora,) if adapter == "python" else ())


async def test_an_adapter_chosen_by_hand_wins(
    service: ChatService, locations: Locations, root: Path, promote: Callable[..., AdapterVersion]
) -> None:
    promote(Registry(locations, root), base_model="tiny")
    assert (await collect(service, [user("@main.go")], "python"))[0].adapter == "python"
    assert (await collect(service, [user("@app.py")], "none"))[0].adapter == "base"
    assert service.adapters() == ["python"]
    with pytest.raises(ConfigError, match="no active adapter 'rust'"):
        await collect(service, [user("@app.py")], "rust")


async def test_adapters_of_another_base_are_not_used(
    service: ChatService, locations: Locations, root: Path, promote: Callable[..., AdapterVersion]
) -> None:
    promote(Registry(locations, root), base_model="another")
    assert (await collect(service, [user("@app.py")]))[0].adapter == "base"


async def test_a_refused_attachment_stops_the_question(service: ChatService, engine) -> None:
    with pytest.raises(DataError, match="no such file"):
        await collect(service, [user("@gone.py")])
    assert engine.requests == []


async def test_a_file_that_went_since_does_not_stop_the_next(service: ChatService, engine) -> None:
    await collect(service, [user("@gone.py"), assistant("ok"), user("and now?")])
    assert len(engine.requests) == 1


async def test_questions_without_an_answer_are_joined(service: ChatService, engine) -> None:
    await collect(service, [user("one"), assistant(" "), user("two")])
    assert "user\none\n\ntwo<|im_end|>" in engine.text(engine.requests[0].tokens)


async def test_closing_the_answer_closes_the_engines_stream(service: ChatService, engine) -> None:
    async with contextlib.aclosing(service.answer([user("Why?")])) as stream:
        async for item in stream:
            if isinstance(item, Piece):
                break
        assert engine.closed == 0
    assert engine.closed == 1


async def test_an_engine_that_ends_without_finishing_is_an_error(
    service: ChatService, engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(request):
        yield Piece(text="half")

    monkeypatch.setattr(engine, "generate", broken)
    with pytest.raises(EngineError, match="ask again"):
        await collect(service, [user("Why?")])


async def test_warming_loads_what_will_be_asked(
    service: ChatService,
    engine,
    locations: Locations,
    root: Path,
    promote: Callable[..., AdapterVersion],
) -> None:
    lora = promote(Registry(locations, root), base_model="tiny").lora
    await service.warm("python")
    assert engine.warmed.adapters == (lora,)
    await service.warm()
    assert engine.warmed.adapters == ()
