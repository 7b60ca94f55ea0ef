"""Where the measured figures of the issue's bars are kept: ``docs/bars/NAME.json``."""

import json
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "bars"
PROGRAM = str(Path(sys.executable).parent / "flex-assist")


def write(name: str, figures: dict[str, Any]) -> Path:
    """Store figures with the commit they come from."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{name}.json"
    record = {
        "commit": commit(),
        # Figures beside these are no change of what was measured.
        "clean": not _git(
            "status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs/bars"
        ),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        **figures,
    }
    path.write_text(json.dumps(record, indent=2) + "\n")
    print(path.read_text())
    return path


def finish(name: str, figures: dict[str, Any], held: Mapping[str, bool], *, store: bool) -> int:
    """Store the figures, or only print them; the script's exit status: 1 if a bar was missed."""
    if store:
        write(name, figures)
    else:
        print(json.dumps(figures, indent=2))
    return 0 if all(held.values()) else 1


def command(name: str, arguments: Sequence[str] | None = None) -> str:
    """What to type for the same figures.

    Args:
        arguments: Of the script, by default all that it was given.
    """
    given = shlex.join(sys.argv[1:] if arguments is None else arguments)
    return f"make bars-{name}" + (f" BARS={shlex.quote(given)}" if given else "")


def commit() -> str:
    """The checkout's commit."""
    return _git("rev-parse", "HEAD")


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
