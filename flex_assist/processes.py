"""Starting this program's own modules as other processes."""

import sys


def own_command(module: str, *arguments: str) -> list[str]:
    """The command line that runs ``module`` of ours.

    People work in folders that are not trusted. Without -P Python would look for modules in the
    current folder first, and run a ``json.py`` that a repository brought along.
    """
    return [sys.executable, "-P", "-m", module, *arguments]
