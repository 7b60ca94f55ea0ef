"""What every command that trains does first. Light: nothing here loads torch until it is asked to.

The order matters: how threads wait is read when torch is loaded, and memory that has been allocated
before it is told to be kept is not.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from flex_assist.errors import DataError, MissingExtraError
from flex_trainer import waiting


@contextlib.contextmanager
def training_extra() -> Iterator[None]:
    """Around the imports of a command: a missing package names what to install.

    Raises:
        MissingExtraError: The extra ``train`` is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtraError("training", "train") from error


def prepare_process() -> None:
    """Choose how threads wait, load torch, and let the process keep its memory."""
    waiting.choose()
    from flex_trainer import device

    device.keep_memory()


def repository_root(repo: Path) -> Path:
    """The folder to work on, absolute.

    Raises:
        DataError: It is not a folder.
    """
    if not repo.is_dir():
        raise DataError(f"{str(repo)!r} is not a folder; give the folder of a repository")
    return repo.resolve()
