"""What git's history says of a repository: messages of small commits and what they changed.

The history is no more trusted than the files: nothing of the repository runs, what git writes is
bounded, and texts pass the same filters. A commit with a secret in it is left out as a whole.
"""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from flex_assist import language
from flex_assist.repository import containers, git
from flex_assist.repository.masking import mask
from flex_assist.repository.secrets import find_secrets

MOST_COMMITS = 400
MOST_BYTES = 16 << 20
MOST_FILES = 2
MOST_CHANGED_LINES = 30
MAX_LINE_CHARACTERS = 400
MESSAGE_CHARACTERS = 10, 400
_COMMIT = re.compile(r"[0-9a-f]{40,64}")
# What tools add to messages, with names and addresses of people.
_TRAILER = re.compile(
    r"^[A-Z][A-Za-z-]+-(?:by|to|on|id|url): .*$|^[A-Za-z-]*Bug: .*$", re.IGNORECASE
)
# Names with quotes, backslashes or control characters stand in quotes.
_HEADER = re.compile(r"--- a/|\+\+\+ b/|(?:---|\+\+\+) /dev/null$")
_HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One place of a file that a commit changed.

    Attributes:
        first_line: Before the change, from 1.
        lines: Those of the diff, each with its mark: ``" "``, ``"-"`` or ``"+"``.
    """

    path: str
    first_line: int
    lines: tuple[str, ...]

    @property
    def before(self) -> str:
        """What stood there."""
        return "\n".join(line[1:] for line in self.lines if line[0] != "+")

    @property
    def after(self) -> str:
        """What stands there since."""
        return "\n".join(line[1:] for line in self.lines if line[0] != "-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """A small commit.

    Attributes:
        message: Without what tools add to it.
    """

    message: str
    changes: tuple[Change, ...]


def small_commits(
    root: Path, allowed: Collection[str], kept_apart: Collection[str] = ()
) -> tuple[Commit, ...]:
    """The newest small commits, newest first; none where there is no git or no history.

    Args:
        allowed: The files, relative to ``root``, whose contents may be shown. A commit that touches
            another source file is left out: what it says could be of what is held out.
        kept_apart: Lines that no change may show, wherever they once stood:
            ``duplicates.own_lines``.
    """
    messages = _messages(root)
    listed = git.bounded_output(
        root, "diff-tree", "--stdin", "-r", "-p", "--relative", "--no-ext-diff", "--no-textconv",
        "--no-renames", "--no-color", "--full-index", "--src-prefix=a/", "--dst-prefix=b/",
        "--ignore-submodules=all", "--unified=3",
        given="".join(f"{digest}\n" for digest in messages).encode(),
        most_bytes=MOST_BYTES,
    ) if messages else None  # fmt: skip
    if listed is None:
        return ()
    text = listed.decode("utf-8", "replace")
    if len(listed) == MOST_BYTES:
        # The last one may not be whole.
        text = text[: text.rfind("\ndiff --git ")]
    found = []
    for digest, diff in _diffs(text):
        changes = _changes(diff)
        if changes is None:
            continue
        if _is_small(changes, allowed) and (message := cleaned(messages.get(digest, ""))):
            shown = tuple(
                change
                for change in changes
                if change.path in allowed and not _shows(change, kept_apart)
            )
            if MESSAGE_CHARACTERS[0] <= len(message) and all(map(_is_clean, shown)) and shown:
                found.append(Commit(message=message, changes=shown))
    return tuple(found)


def _shows(change: Change, kept_apart: Collection[str]) -> bool:
    return any(line[1:].strip() in kept_apart for line in change.lines)


def cleaned(text: str) -> str | None:
    """A text of the history as it would be learnt from a file; None with a secret in it."""
    return None if find_secrets(text) else mask(text)[0]


def _is_clean(change: Change) -> bool:
    return all(cleaned(text) == text for text in (change.before, change.after))


def _messages(root: Path) -> dict[str, str]:
    """The messages of the newest commits by their digests, newest first."""
    listed = git.bounded_output(
        root, "rev-list", "--no-merges", f"--max-count={MOST_COMMITS}", "--no-show-signature",
        "--no-commit-header", "--format=%H%n%B%x00", "HEAD",
        most_bytes=MOST_BYTES,
    )  # fmt: skip
    found = {}
    for record in (listed or b"").decode("utf-8", "replace").split("\0"):
        digest, _, body = record.strip("\n").partition("\n")
        if _COMMIT.fullmatch(digest):
            found[digest] = _message(body)
    return found


def _message(body: str) -> str:
    lines = [line.rstrip() for line in body.split("\n") if not _TRAILER.match(line)]
    text = "\n".join(lines).strip()
    first = text.split("\n\n")[0]
    return (text if len(text) <= MESSAGE_CHARACTERS[1] else first)[: MESSAGE_CHARACTERS[1]]


def _diffs(text: str) -> Iterator[tuple[str, list[str]]]:
    """Digest and lines of each commit."""
    digest, lines = "", list[str]()
    for line in text.split("\n"):
        # Every line of a diff's contents has a mark in front: it cannot pose as a digest.
        if _COMMIT.fullmatch(line):
            if digest:
                yield digest, lines
            digest, lines = line, []
        else:
            lines.append(line)
    if digest:
        yield digest, lines


def _changes(lines: list[str]) -> list[Change] | None:
    """The places that a commit changed; those of added files, too, without anything before.

    None where a path is written in a way that is not understood: it could be any.
    """
    found: list[Change] = []
    path, first, body, left = "", 0, list[str](), [0, 0]
    for line in [*lines, "diff --git"]:
        if sum(left) > 0 and line[:1] in (" ", "-", "+"):
            body.append(line)
            left[0] -= line[0] != "+"
            left[1] -= line[0] != "-"
            continue
        if body and not line.startswith("\\"):
            found.append(Change(path=path, first_line=first, lines=tuple(body)))
            body, left = [], [0, 0]
        hunk = _HUNK.match(line)
        if line.startswith("diff --git"):
            path = ""
        elif line.startswith(("--- ", "+++ ")) and not _HEADER.match(line):
            return None
        if hunk:
            first = int(hunk[1])
            left = [int(hunk[2] or 1), int(hunk[4] or 1)]
        elif line.startswith(("--- a/", "+++ b/")):
            path = line[6:].rstrip("\t")
    return found


def _is_source(path: str) -> bool:
    return language.by_path(path) is not None or containers.kind_of(path) is not None


def _is_small(changes: list[Change], allowed: Collection[str]) -> bool:
    """Whether a commit changes little, and no source file but the allowed ones."""
    paths = {change.path for change in changes}
    marked = [line for change in changes for line in change.lines if line[0] != " "]
    return (
        0 < len(paths) <= MOST_FILES
        and len(marked) <= MOST_CHANGED_LINES
        and all(len(line) <= MAX_LINE_CHARACTERS for change in changes for line in change.lines)
        and all(path in allowed or not _is_source(path) for path in paths)
        # What such a file shows beside its code is not learnt from it, so not from its changes.
        and not any(containers.kind_of(path) for path in paths)
    )
