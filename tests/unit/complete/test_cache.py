"""When an earlier answer still is the answer, and when it must not be."""

from dataclasses import replace
from pathlib import Path

import pytest

from flex_assist.complete.cache import CompletionCache, Place, files_of
from flex_assist.complete.request import Completion
from flex_assist.complete.surroundings import Surroundings
from flex_assist.engine.protocol import Weights
from flex_assist.models.fim import FimTokens

WEIGHTS = Weights(model=Path("/m.gguf"), adapters=(Path("/python.gguf"),))
PLACE = Place(
    weights=WEIGHTS, files=((1, 2, 3),), fim=None, language="python", path="a.py", stops=(),
    context=1,
)  # fmt: skip
BEFORE, AFTER = "def first(items):\n    ", "\n\nx = 1\n"
ANSWER = Completion(
    text="return items[0]", language="python", adapter="python", reason="it is active",
    form="merged", prompt_tokens=30, reused_tokens=5, completion_tokens=4, notes=("cut",),
)  # fmt: skip


def at(typed: str = "", after: str = AFTER, before: str = BEFORE) -> Surroundings:
    return Surroundings(before=before + typed, after=after)


@pytest.fixture
def cache() -> CompletionCache:
    made = CompletionCache()
    made.put(PLACE, at(), ANSWER)
    return made


def text(cache: CompletionCache, around: Surroundings, place: Place = PLACE) -> str | None:
    found = cache.find(place, around)
    return found.text if found is not None else None


def test_what_is_typed_as_it_was_said_leaves_the_rest(cache: CompletionCache) -> None:
    for count in range(len(ANSWER.text)):
        assert text(cache, at(ANSWER.text[:count])) == ANSWER.text[count:]
    # Steps back, too.
    assert text(cache, at("ret")) == "urn items[0]"
    assert text(cache, at()) == ANSWER.text
    found = cache.find(PLACE, at("ret"))
    assert found is not None
    assert (found.source, found.adapter, found.form, found.notes) == (
        "cache", "python", "merged", ("cut",),
    )  # fmt: skip
    assert found.prompt_tokens + found.reused_tokens + found.completion_tokens == 0


@pytest.mark.parametrize(
    "around",
    [
        at("rex"),
        at(ANSWER.text),
        at(ANSWER.text + "x"),
        at(before=BEFORE[:-1]),
        at(before="\n" + BEFORE[1:]),
        at(before="D" + BEFORE[1:]),
        at(after=AFTER + "\n"),
        at(after=""),
        Surroundings(before="", after=""),
    ],
)
def test_another_text_has_no_answer(cache: CompletionCache, around: Surroundings) -> None:
    assert text(cache, around) is None


@pytest.mark.parametrize(
    "change",
    [
        {"weights": replace(WEIGHTS, adapters=(Path("/go.gguf"),))},
        {"weights": replace(WEIGHTS, adapters=())},
        {"weights": replace(WEIGHTS, merged=Path("/merged.gguf"))},
        {"files": ((2, 2, 3),)},
        {"fim": FimTokens(suffix_id=1, prefix_id=2, middle_id=3, end_id=4)},
        {"language": None},
        {"path": "b.py"},
        {"stops": ("\n",)},
        {"context": 2},
    ],
)
def test_another_place_has_no_answer(cache: CompletionCache, change: dict[str, object]) -> None:
    assert text(cache, at(), replace(PLACE, **change)) is None  # type: ignore[arg-type]


def test_that_there_is_nothing_to_say_is_an_answer(cache: CompletionCache) -> None:
    cache.put(PLACE, at("x"), replace(ANSWER, text=""))
    assert text(cache, at("x")) == ""
    assert text(cache, at("xy")) is None


def test_the_newest_that_fits_answers(cache: CompletionCache) -> None:
    """So that what is shown does not jump to what was said here earlier."""
    cache.put(PLACE, at("re"), replace(ANSWER, text="move(items)"))
    assert text(cache, at("re")) == "move(items)"
    assert text(cache, at("r")) == "eturn items[0]"
    assert text(cache, at("re")) == "turn items[0]"


@pytest.mark.parametrize(
    ("typed", "closed", "rest"),
    [
        ("call(", ")", "'a', [1]"),
        ("call('", "')", "a"),
        ("call('a', [", "])", "1"),
        ("call(", "]", None),
        ("call('a'", "'", None),
        ("cal", ")", None),
        ("", ")", None),
    ],
)
def test_brackets_that_the_editor_closes(typed: str, closed: str, rest: str | None) -> None:
    """They are not closed a second time, and the answer is not lost by them."""
    cache = CompletionCache()
    cache.put(PLACE, at(), replace(ANSWER, text="call('a', [1])"))
    assert text(cache, at(typed, after=closed + AFTER)) == rest


def test_the_one_not_used_for_longest_goes() -> None:
    cache = CompletionCache(limit=2)
    cache.put(PLACE, at("a"), ANSWER)
    cache.put(PLACE, at("b"), ANSWER)
    assert text(cache, at("a")) == ANSWER.text
    cache.put(PLACE, at("c"), ANSWER)
    assert len(cache) == 2
    assert cache.has(PLACE, at("a"))
    assert not cache.has(PLACE, at("b"))
    cache.put(PLACE, at("c"), ANSWER)
    assert len(cache) == 2
    cache.clear()
    assert text(cache, at("c")) is None


def test_the_state_of_files(tmp_path: Path) -> None:
    model, adapter = tmp_path / "m", tmp_path / "a"
    weights = Weights(model=model, adapters=(adapter,), merged=tmp_path / "merged")
    for path in (model, adapter, tmp_path / "merged"):
        assert files_of(weights) is None
        path.write_text("x")
    first = files_of(weights)
    assert first == files_of(weights)
    assert first is not None
    assert len(first) == 3
    adapter.write_text("xy")
    assert files_of(weights) != first
