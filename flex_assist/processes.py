"""This program's processes: starting its own modules as others, giving memory back."""

import ctypes
import platform
import sys


def own_command(module: str, *arguments: str) -> list[str]:
    """The command line that runs ``module`` of ours.

    People work in folders that are not trusted. Without -P Python would look for modules in the
    current folder first, and run a ``json.py`` that a repository brought along.
    """
    return [sys.executable, "-P", "-m", module, *arguments]


def give_memory_back() -> None:
    """Return to the system what was freed, where the C library keeps it."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
