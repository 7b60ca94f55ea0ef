"""What every command that trains does first. Light: nothing here loads torch until it is asked to.

The order matters: how threads wait is read when torch is loaded, and memory that has been allocated
before it is told to be kept is not.
"""

import contextlib
import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from flex_assist.errors import DataError, MissingExtraError
from flex_trainer import waiting

# In a run's folder, from its beginning to its end: what it was asked for.
ASKED_FILE = "asked.json"
# Libraries of Hugging Face ask the network for this and that where they may. bitsandbytes would
# fetch a kernel when it is imported, and PEFT imports it where it is installed.
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


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


@contextlib.contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM ends a command as Ctrl-C does: folders that were made for a while go with it."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def prepare_process() -> None:
    """Stay off the network, choose how threads wait, load torch, and keep memory."""
    os.environ.update(OFFLINE)
    # It warns that it has not found that kernel.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
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
