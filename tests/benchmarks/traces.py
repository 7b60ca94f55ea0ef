"""Makes the typing trace of `flex-assist bench latency`, from changes in this project's history.

Each change is a file of one commit and what the next commit that changed it made of it. Of the
difference, runs of lines that were added (or changed) are typed, character by character. Pauses are
drawn once, with a seed: log-normal, short within a word, longer at its end, long before a new line.
"""

import argparse
import difflib
import math
import random
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import bars

from flex_lsp.bench.trace import FOLDER, Key, Trace, TracedEdit, TracedFile, write

# (commit, path, language, most characters that are typed)
CHANGES = (
    ("4725357", "flex_assist/complete/root.py", "python", 420),
    ("6000ddf", "lsp/editors/vscode/src/extension.js", "javascript", 340),
)
# Medians of pauses, ms: within a word, after other characters, before a new line, before an edit.
WORD_MS, OTHER_MS, LINE_MS, EDIT_MS = 110, 190, 800, 1200
SPREAD, THINK_SHARE, THINK_MS, MOST_MS = 0.35, 0.06, 900, 3000
# A change of a file is typed in turns of so many edits before a jump to the other file.
EDITS_A_TURN = 1
KEYS = re.compile(r"\n[ \t]*|.", re.DOTALL)


def recorded(seed: int) -> Trace:
    """The trace."""
    rng = random.Random(seed)
    files, edits = [], []
    for number, (commit, path, language, most) in enumerate(CHANGES):
        old, new = (_show(f"{commit}{parent}:{path}") for parent in ("^", ""))
        files.append(TracedFile(path=path, language_id=language, text=old))
        edits.append(_edits(number, old, new, most, rng))
    ordered = []
    while any(edits):
        for one in edits:
            ordered += one[:EDITS_A_TURN]
            del one[:EDITS_A_TURN]
    return Trace(name=f"history, seed {seed}", files=tuple(files), edits=tuple(ordered))


def _edits(file: int, old: str, new: str, most: int, rng: random.Random) -> list[TracedEdit]:
    """From the top of the file on, until the line that reaches ``most`` characters."""
    found: list[TracedEdit] = []
    typed, shift = 0, 0
    for start, delete, text in _blocks(old, new):
        line_end = text.find("\n", max(0, most - typed))
        text = text[:line_end] if line_end > 0 else text
        keys = tuple(Key(text=one, pause_ms=_pause(one, rng)) for one in KEYS.findall(text))
        if keys:
            found.append(
                TracedEdit(
                    file=file, offset=start + shift, delete=delete,
                    pause_ms=_drawn(EDIT_MS, rng), keys=keys,
                )
            )  # fmt: skip
            shift += len(text) - delete
        typed += len(text)
        if typed >= most:
            break
    return found


def _blocks(old: str, new: str) -> Iterator[tuple[int, int, str]]:
    """Offset in ``old``, characters deleted there, text typed instead.

    What stays the same at both ends of a run of lines is neither deleted nor typed.
    """
    before, after = (text.splitlines(keepends=True) for text in (old, new))
    starts = [0]
    for line in before:
        starts.append(starts[-1] + len(line))
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    for tag, a, b, c, d in matcher.get_opcodes():
        if tag in ("equal", "delete"):
            continue
        gone, come = "".join(before[a:b]), "".join(after[c:d])
        head = len(_common(gone, come))
        tail = len(_common(gone[head:][::-1], come[head:][::-1]))
        at = starts[a] + head
        text = come[head : len(come) - tail]
        if tag == "insert":
            # An editor opens a line below the one before: its break first, none at the end.
            at, text = at - 1, "\n" + text.removesuffix("\n")
        yield at, len(gone) - head - tail, text


def _common(left: str, right: str) -> str:
    size = next((at for at, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), None)
    return left[: min(len(left), len(right)) if size is None else size]


def _pause(key: str, rng: random.Random) -> int:
    if rng.random() < THINK_SHARE:
        return _drawn(THINK_MS, rng)
    if key.startswith("\n"):
        return _drawn(LINE_MS, rng)
    return _drawn(WORD_MS if key.isalnum() else OTHER_MS, rng)


def _drawn(median_ms: int, rng: random.Random) -> int:
    return min(MOST_MS, round(median_ms * math.exp(rng.gauss(0, SPREAD))))


def _show(what: str) -> str:
    command = ["git", "-C", str(bars.ROOT), "show", what]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main() -> None:
    """Write the trace, and say how long it is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=FOLDER / "history.json")
    arguments = parser.parse_args()
    trace = recorded(arguments.seed)
    write(trace, arguments.out)
    pauses = sum(
        edit.pause_ms * (2 if edit.delete else 1) + sum(key.pause_ms for key in edit.keys)
        for edit in trace.edits
    )
    print(f"{len(trace.edits)} edits, {trace.characters} characters, {pauses / 1000:.0f} s")


if __name__ == "__main__":
    main()
