"""A base that trains in seconds, and a small repository."""

from collections.abc import Callable
from pathlib import Path

import pytest

FILES = 14


@pytest.fixture(scope="session")
def small_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files that differ enough to count as several."""
    return _write_files(tmp_path_factory.mktemp("repository"), FILES)


@pytest.fixture(scope="session")
def write_files() -> Callable[..., Path]:
    """Writes a repository of so many files; others from another ``first`` on."""
    return _write_files


def _write_files(root: Path, count: int, first: int = 0) -> Path:
    root.mkdir(exist_ok=True)
    for number in range(first, first + count):
        (root / f"part_{number}.py").write_text(text_of(number))
    return root


def text_of(number: int) -> str:
    """Some functions with names of their own."""
    words = ("tree", "cloud", "river", "stone", "lamp", "coast", "grain", "wheel", "glass", "field")
    of: Callable[[int], str] = lambda at: words[(number * 3 + at * 7) % len(words)]  # noqa: E731
    return "\n\n".join(
        f"def {of(at)}_{number}_{at}({of(at + 1)}):\n"
        f'    """Give the {of(at + 2)} of a {of(at + 1)}."""\n'
        f"    {of(at + 2)} = {of(at + 1)} * {number} + {at * number}\n"
        f"    return {of(at + 2)}\n"
        for at in range(5)
    )
