"""This program's processes: its own modules as others, how threads wait, memory given back."""

import ctypes
import platform
import sys
from collections.abc import Mapping

# How OpenMP's threads wait for each other; libgomp reads both when it is loaded.
WAIT_POLICY, SPINS = "OMP_WAIT_POLICY", "GOMP_SPINCOUNT"


def own_command(module: str, *arguments: str) -> list[str]:
    """The command line that runs ``module`` of ours.

    People work in folders that are not trusted. Without -P Python would look for modules in the
    current folder first, and run a ``json.py`` that a repository brought along.
    """
    return [sys.executable, "-P", "-m", module, *arguments]


def waiting_is_set(environment: Mapping[str, str]) -> bool:
    """Whether somebody has said how threads are to wait: then that stays."""
    return WAIT_POLICY in environment or SPINS in environment


def give_memory_back() -> None:
    """Return to the system what was freed, where the C library keeps it."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
