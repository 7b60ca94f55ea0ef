"""Pieces of other files stay while somebody types on, as long as they fit."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from flex_assist.complete import context
from flex_assist.complete.context import RepositoryContext
from flex_assist.config import Settings
from flex_assist.language import BY_NAME
from flex_assist.prompt.retrieval import Chunk, RepositoryIndex

PYTHON = BY_NAME["python"]


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    path: str
    text: str
    language: str = "python"


FILES = [
    File(path=f"{name}.py", text="\n".join(f"{name}_{number} = {name}(1)" for number in range(9)))
    for name in ("alpha", "beta", "gamma", "delta", "zeta")
]


@pytest.fixture
def repository(tmp_path: Path) -> RepositoryContext:
    return RepositoryContext(tmp_path, Settings(), RepositoryIndex(FILES))


async def ask(
    repository: RepositoryContext, lines: list[str], path: str = "own.py", below: str = ""
) -> list[str]:
    before = "\n".join([*lines, ""])
    found = await repository.chunks(before, "\n" + below, path, PYTHON)
    return [chunk.path for chunk in found if isinstance(chunk, Chunk)]


async def test_they_stay_in_their_order_while_they_fit(repository: RepositoryContext) -> None:
    lines = ["alpha beta"]
    first = await ask(repository, lines)
    assert set(first) == {"alpha.py", "beta.py"}
    lines += ["beta beta_1 beta_2 gamma"]
    alone = RepositoryContext(None, Settings(), RepositoryIndex(FILES))
    assert await ask(alone, lines) != first
    assert await ask(repository, lines) == first
    # Elsewhere they are looked for anew.
    assert await ask(repository, lines, below="x") != first
    assert await ask(repository, lines) == first
    assert await ask(repository, ["gamma"], "other.py") == ["gamma.py"]
    assert await ask(repository, lines) == first


async def test_they_go_when_others_fit_better(repository: RepositoryContext) -> None:
    lines = ["alpha beta"]
    await ask(repository, lines)
    lines += ["gamma gamma_1 gamma_2 gamma_3", "zeta zeta_1 zeta_2 zeta_3 zeta_4"]
    assert {"gamma.py", "zeta.py"} < set(await ask(repository, lines))


async def test_far_away_they_are_looked_for_again(
    repository: RepositoryContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context, "STEADY_LINES", 2)
    lines = ["alpha beta"]
    first = await ask(repository, lines)
    lines += ["beta beta_1 beta_2 gamma", "", ""]
    assert await ask(repository, lines) != first


async def test_what_is_looked_up_anew_is_not_held(
    repository: RepositoryContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ask(repository, ["alpha beta"])
    version = repository.version
    repository.forget()
    assert repository.version != version
    files = [File(path="new.py", text="alpha beta")]
    monkeypatch.setattr(context, "build_index", lambda *_: RepositoryIndex(files))
    version = repository.version
    await repository.load()
    assert repository.version != version
    assert await ask(repository, ["alpha beta"]) == ["new.py"]


async def test_only_the_places_used_last_are_held(
    repository: RepositoryContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context, "PLACES_HELD", 2)
    lines = ["alpha beta"]
    first = await ask(repository, lines)
    for path in ("b.py", "c.py"):
        await ask(repository, lines, path)
    lines += ["beta beta_1 beta_2 gamma"]
    assert await ask(repository, lines) != first
    assert await ask(repository, lines, "c.py") == first
