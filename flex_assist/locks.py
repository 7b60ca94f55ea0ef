"""Locks between processes, that go with the process that holds them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flex_assist.errors import BusyError
from flex_assist.locations import private_directory


@contextmanager
def exclusive(path: Path, *, what: str, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the lock file ``path`` for the block.

    Args:
        what: What it protects, for the message.
        wait_s: How long to wait for another holder.

    Raises:
        BusyError: Another process holds it.
    """
    # Imported here: it brings asyncio along, and most commands only read.
    import filelock

    private_directory(path.parent)
    lock = filelock.FileLock(path, timeout=wait_s, mode=0o600)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        raise BusyError(f"{what} is in use by another process; wait for it or stop it") from error
    try:
        yield
    finally:
        lock.release()
