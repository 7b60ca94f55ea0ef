"""Pieces of other files stay while somebody types on, as long as they fit."""

import asyncio
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flex_assist.complete import context, freshness
from flex_assist.complete.context import RepositoryContext
from flex_assist.complete.edits import EditedSpan
from flex_assist.complete.freshness import Freshness
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


def write(root: Path, **texts: str) -> None:
    for name, text in texts.items():
        (root / f"{name}.py").write_text(text)


def repeated(name: str) -> str:
    return "".join(f"{name}_{number} = {name}({number})\n" for number in range(9))


@pytest.fixture
async def real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RepositoryContext:
    """Over real files, looked at again whenever somebody asks."""
    monkeypatch.setattr(freshness, "LOOK_EVERY_S", 0.0)
    monkeypatch.setattr(freshness, "SHARE", 1e9)
    write(tmp_path, alpha=repeated("alpha"), beta=repeated("beta"))
    opened = RepositoryContext(tmp_path, Settings())
    await opened.load()
    return opened


looked = Freshness.looked


async def settled(repository: RepositoryContext, *given: Any, **more: Any) -> list[str]:
    """The paths, after the files have been looked at again."""
    for _ in range(2):
        # The first may be one that began before.
        await ask(repository, *given, **more)
        assert repository._looking is not None
        await repository._looking
    return await ask(repository, *given, **more)


async def test_files_that_come_change_and_go(real: RepositoryContext, tmp_path: Path) -> None:
    lines = ["alpha beta gamma"]
    assert set(await settled(real, lines)) == {"alpha.py", "beta.py"}
    version = real.version
    assert set(await settled(real, lines)) == {"alpha.py", "beta.py"}
    assert real.version == version
    write(tmp_path, gamma=repeated("gamma"))
    await settled(real, lines)
    # What is held stays while it fits; elsewhere they are looked for anew.
    assert set(await ask(real, lines)) == {"alpha.py", "beta.py"}
    assert "gamma.py" in await ask(real, lines, "other.py")
    write(tmp_path, alpha=repeated("omega"))
    assert set(await settled(real, lines)) == {"beta.py", "gamma.py"}
    (tmp_path / "beta.py").unlink()
    assert await settled(real, lines) == ["gamma.py"]


async def test_an_index_that_was_given_is_used_as_it_is(repository: RepositoryContext) -> None:
    """Though its files are nowhere: something is measured with it."""
    assert set(await ask(repository, ["alpha beta"])) == {"alpha.py", "beta.py"}
    assert repository._looking is None


def no_time_to_index(fresh: Freshness, *given: Any) -> bool:
    looked(fresh, *given)
    return False


async def test_ignored_from_now_on_means_at_once(
    real: RepositoryContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while it is too early to index again: neither it, nor what is edited in it."""
    edited = EditedSpan(path="beta.py", first_line=1, text="beta_1 = edited")
    lines = ["alpha beta"]
    monkeypatch.setattr(freshness.Freshness, "looked", no_time_to_index)

    async def found() -> set[str]:
        chunks = await real.chunks("alpha beta\n", "", "own.py", PYTHON, [edited])
        return {chunk.path for chunk in chunks}

    assert await found() == {"alpha.py", "beta.py"}
    (tmp_path / ".flexassistignore").write_text("beta.py\n")
    assert await settled(real, lines) == ["alpha.py"]
    assert await found() == {"alpha.py"}


async def test_saving_what_is_typed_in_is_no_reason_to_index_again(
    real: RepositoryContext, tmp_path: Path
) -> None:
    version = real.version
    write(tmp_path, own=repeated("own"))
    await settled(real, ["alpha beta"])
    assert real.version == version
    # Elsewhere it gives pieces.
    await settled(real, ["alpha beta"], "other.py")
    assert real.version != version


async def test_what_was_read_before_it_was_to_be_forgotten_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, alpha=repeated("alpha"))
    plain, begun, go_on = context.build_index, threading.Event(), threading.Event()

    def slowly(*given: Any) -> RepositoryIndex:
        found = plain(*given)
        begun.set()
        go_on.wait(5)
        return found

    monkeypatch.setattr(context, "build_index", slowly)
    repository = RepositoryContext(tmp_path, Settings())
    loading = asyncio.create_task(repository.load())
    await asyncio.to_thread(begun.wait, 5)
    (tmp_path / "alpha.py").unlink()
    repository.forget()
    go_on.set()
    await loading
    assert await ask(repository, ["alpha"]) == []
    await repository.load()
    assert await ask(repository, ["alpha"]) == []


async def test_what_gives_no_other_pieces_changes_nothing(
    real: RepositoryContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log that grows, a file that is saved as it was: known answers stay known."""
    version, lines = real.version, ["alpha beta"]
    built: list[object] = []
    plain = context.build_index
    monkeypatch.setattr(context, "build_index", lambda *given: built.append(given) or plain(*given))
    (tmp_path / "server.log").write_text("alpha")
    await settled(real, lines)
    assert built == []
    write(tmp_path, alpha=repeated("alpha"))
    os.utime(tmp_path / "alpha.py", ns=(1, 1))
    await settled(real, lines)
    assert real.version == version
    (tmp_path / "beta.py").rename(tmp_path / "later")
    assert await settled(real, lines) == ["alpha.py"]
    (tmp_path / "later").rename(tmp_path / "beta.py")
    assert real.version != version
    await settled(real, lines, "other.py")
    assert set(await ask(real, lines, "third.py")) == {"alpha.py", "beta.py"}


def test_looking_and_indexing_take_a_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    fresh = Freshness()
    before, after = {"a.py": (1, 1)}, {"a.py": (2, 1)}

    def due_after(seconds: float) -> bool:
        now[0] += seconds - 0.1
        early = fresh.look_is_due
        now[0] += 0.2
        return fresh.look_is_due and not early

    fresh.indexed(before, 0.01, 8.0)
    assert due_after(freshness.LOOK_EVERY_S)
    assert not fresh.looked(after, 2.0, None)
    assert due_after(2.0 / freshness.SHARE)
    assert not fresh.looked(after, 0.01, None)
    now[0] = 1000 + 8.0 / freshness.SHARE + 1
    assert fresh.looked(after, 0.01, None)
    assert not fresh.looked(after, 0.01, "a.py")
    fresh.indexed(before, 3.0, 0.0)
    assert due_after(3.0 / freshness.SHARE)
