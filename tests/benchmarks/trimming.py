"""What the filters of completions do to what really stood there, in source files of all languages.

``kept``: the share of places where the true text passes unchanged. ``cut``: where what follows it,
written once more, is cut off again, and no more than that. No model. Folders with sources are
given, by default this repository's.
"""

import argparse
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import bars

from flex_assist.complete.surroundings import Surroundings, several_lines
from flex_assist.complete.trim import trim
from flex_assist.evaluate.spans import SpanSource
from flex_assist.language import by_path

PLACES_OF_A_FILE = 6
REPEATED_CHARACTERS = 200
MOST_CHARACTERS = 60_000


def places(path: Path, count: int) -> Iterator[tuple[str, Surroundings, str]]:
    """Language, surroundings and true text of some places of a file."""
    language = by_path(path)
    text = path.read_text(encoding="utf-8", errors="replace").replace("\r\n", "\n")
    if language is None or not 400 <= len(text) <= MOST_CHARACTERS:
        return
    source, rng = SpanSource(text, language), random.Random(path.name)
    for _ in range(count):
        span = source.draw(rng)
        if span is not None and span.kind != "random":
            before, after = text[: span.start], text[span.end :]
            around = Surroundings(before=before, after=after, language=language.name)
            yield language.name, around, text[span.start : span.end]


def judged(around: Surroundings, middle: str) -> tuple[bool, bool] | None:
    """Whether a true text is kept, and cut where it goes on; None where nothing can be shown."""
    several = several_lines(around, knows_end=True)
    wanted = (middle if several else middle.partition("\n")[0]).rstrip()
    if not wanted.strip():
        return None
    more = middle + around.after[:REPEATED_CHARACTERS]
    kept, _ = trim(middle, around, several=several, ended_by="end")
    cut, _ = trim(more, around, several=several, ended_by="text")
    return kept == wanted, cut == wanted


def measure(paths: Iterable[Path], count: int = PLACES_OF_A_FILE) -> dict[str, dict[str, float]]:
    """Shares by language, and of all."""
    found: dict[str, Counter[str]] = {"all": Counter()}
    for path in paths:
        for language, around, middle in places(path, count):
            if (verdict := judged(around, middle)) is not None:
                for name in (language, "all"):
                    found.setdefault(name, Counter()).update(
                        places=1, kept=int(verdict[0]), cut=int(verdict[1])
                    )
    return {
        name: {
            "places": one["places"],
            "kept": round(one["kept"] / max(1, one["places"]), 4),
            "cut": round(one["cut"] / max(1, one["places"]), 4),
        }
        for name, one in found.items()
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path, default=[bars.ROOT])
    parser.add_argument("--list", type=Path, help="a file with one path a line, instead of folders")
    given = parser.parse_args()
    if given.list:
        listed = [Path(line) for line in given.list.read_text().splitlines() if line]
    else:
        listed = sorted(path for folder in given.folders for path in folder.rglob("*"))
    files = [path for path in listed if path.is_file() and by_path(path) is not None]
    shares = measure(files)
    bars.write(
        "trimming", {"command": bars.command("trimming", []), "files": len(files), "shares": shares}
    )
