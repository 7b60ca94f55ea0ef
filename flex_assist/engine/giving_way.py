"""Training gives way to people: the engine host says when it works, ``adapt`` waits.

A file whose time of change is renewed while the host works, and nothing else: neither side can
block the other, and one that was killed is forgotten within ``FRESH_S``.
"""

import contextlib
import os
import time
from pathlib import Path
from typing import Final

# So often the host says that it still works, and so long what it said counts: the pause between
# two keys is bridged.
RENEW_EVERY_S: Final = 0.2
FRESH_S: Final = 0.5
# Whoever types without a pause does not stop the training for good.
MOST_S: Final = 2.0
_LOOK_EVERY_S: Final = 0.01


def renew(path: Path) -> None:
    """Say that a person waits for an answer, now."""
    with contextlib.suppress(OSError):
        try:
            os.utime(path)
        except FileNotFoundError:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))


def wait(path: Path, most_s: float = MOST_S) -> float:
    """Wait until nobody waits for an answer, at most ``most_s``; the seconds it took."""
    began_s = time.monotonic()
    while _fresh(path) and (waited_s := time.monotonic() - began_s) < most_s:
        time.sleep(min(_LOOK_EVERY_S, most_s - waited_s))
    return time.monotonic() - began_s


def _fresh(path: Path) -> bool:
    try:
        # A clock that was set back must not stop the training.
        return abs(time.time() - path.stat().st_mtime) < FRESH_S
    except OSError:
        return False
