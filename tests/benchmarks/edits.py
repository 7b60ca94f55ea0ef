"""What spans edited in other files are worth to the base: its loss on lines that a commit added.

Of a git history, newest first: commits that changed several Python files. The lines that one file
got are what is to be written; what the commit changed in another file is what was just edited. The
index is that of the commit before. No training; the reader is that of ``retrieval.py``.
"""

import argparse
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import bars
from retrieval import Reader, summary

from flex_assist.complete.edits import pieces, span
from flex_assist.config import MiningSettings, PromptSettings
from flex_assist.prompt.retrieval import Chunk, RepositoryIndex
from flex_assist.repository.snapshot import read_documents

HUNK = re.compile(r"^@@ -\d+(?:,(\d+))? \+(\d+)(?:,(\d+))? @@", re.MULTILINE)
USUAL = PromptSettings()
ROOMY = PromptSettings(retrieval_tokens=USUAL.retrieval_tokens + 128)
# Where the span stands, and the budget of all pieces.
WAYS = {
    "words": USUAL, "edited behind": USUAL, "edited before": USUAL,
    "words, 128 tokens more": ROOMY, "edited behind, 128 tokens more": ROOMY,
}  # fmt: skip
MOST_LINES = 6
CASES_OF_A_COMMIT = 3
Others = list[tuple[str, int]]


def git(root: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(root), *arguments], check=True, capture_output=True, text=True
    ).stdout


def hunks(root: Path, commit: str, path: str) -> list[tuple[int, int, bool]]:
    """First line (from 0) and number of the lines that a commit wrote; whether it only added."""
    diff = git(root, "diff", "-U0", "--no-ext-diff", f"{commit}^", commit, "--", path)
    found = []
    for match in HUNK.finditer(diff):
        removed, first, added = match[1], int(match[2]), int(match[3] or 1)
        if added:
            found.append((first - 1, added, removed == "0"))
    return found


def cases(root: Path, commits: int) -> Iterator[tuple[str, dict[str, Any], Others]]:
    """Commit, case, and the (path, first line) of what was edited in other files."""
    log = git(root, "log", "--no-merges", "--format=%H", f"-{commits}").split()
    for commit in log:
        names = git(root, "show", "--format=", "--name-only", "--diff-filter=M", commit).split("\n")
        paths = [name for name in names if name.endswith(".py")]
        changed = {path: found for path in paths if (found := hunks(root, commit, path))}
        made = 0
        for path, found in changed.items():
            added = [one for one in found if one[2] and 1 <= one[1] <= MOST_LINES]
            others = [(other, own[0][0]) for other, own in changed.items() if other != path]
            if not added or not others or made == CASES_OF_A_COMMIT:
                continue
            made += 1
            first, count, _ = added[0]
            lines = git(root, "show", f"{commit}:{path}").split("\n")
            case = {"path": path, "prefix": "\n".join([*lines[:first], ""]),
                    "middle": "\n".join(lines[first : first + count]),
                    "suffix": "\n" + "\n".join(lines[first + count :])}  # fmt: skip
            if case["middle"].strip():
                yield commit, case, others


def index_before(root: Path, commit: str) -> RepositoryIndex:
    archive = subprocess.run(
        ["git", "-C", str(root), "archive", f"{commit}^"], check=True, capture_output=True
    ).stdout
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=BytesIO(archive)) as tar:
            tar.extractall(folder, filter="data")
        return RepositoryIndex(read_documents(Path(folder), MiningSettings()))


def ways(
    root: Path, index: RepositoryIndex, commit: str, case: dict[str, Any], others: Others
) -> dict[str, list[Chunk]]:
    found = index.search(
        case["prefix"], case["suffix"], path=case["path"], language="python",
        count=USUAL.retrieval_chunks,
    )  # fmt: skip
    spans = [
        one
        for path, first in others
        if (one := span(path, git(root, "show", f"{commit}:{path}"), first, first + 7))
    ]
    edited = list(pieces(spans, index, path=case["path"], language="python"))[:1]
    behind = found + edited
    return {
        "words": found, "edited behind": behind, "edited before": edited + found,
        "words, 128 tokens more": found, "edited behind, 128 tokens more": behind,
    }  # fmt: skip


def main(arguments: argparse.Namespace) -> None:
    reads = Reader()
    root = arguments.repository.resolve()
    indexes: dict[str, RepositoryIndex] = {}
    known: list[dict[str, Any]] = []
    losses: dict[str, list[Any]] = {way: [] for way in WAYS}
    for commit, case, others in cases(root, arguments.commits):
        if len(known) == arguments.cases:
            break
        if commit not in indexes:
            indexes[commit] = index_before(root, commit)
        chosen = ways(root, indexes[commit], commit, case, others)
        if len(chosen["edited before"]) == len(chosen["words"]):
            continue
        known.append(case)
        for way in arguments.ways:
            losses[way].append(reads.loss(case, chosen[way], WAYS[way]))
        print(f"{len(known)}/{arguments.cases}", file=sys.stderr, flush=True)
    found = {way: summary(known, losses[arguments.ways[0]], losses[way]) for way in arguments.ways}
    bars.write(
        "edits",
        {
            "command": bars.command("edits"),
            "compared_with": arguments.ways[0],
            "cases": len(known),
            "ways": found,
        },
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repository", type=Path, default=bars.ROOT)
    parser.add_argument("--commits", type=int, default=120)
    parser.add_argument("--cases", type=int, default=50)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    main(parser.parse_args())
