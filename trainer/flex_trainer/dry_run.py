"""What would be learnt from, and why the rest would not: ``flex-assist adapt --dry-run``."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from flex_assist.cli.output import print_json, print_table, say
from flex_assist.repository.documents import FileVerdict, printable_path
from flex_assist.repository.snapshot import Snapshot

# Of the parts of a file that holds several languages, the one that says most of the file.
_ORDER = ("train", "held-out", "skip")
EXAMPLE_CHARACTERS = 48


def show(snapshot: Snapshot, *, as_json: bool) -> None:
    """Print the verdicts: a table by language and reason, or all of them as one JSON object."""
    if as_json:
        print_json(record(snapshot))
        return
    print_table(("language", "verdict", "reason", "files", "for example"), _rows(snapshot.verdicts))
    files = by_file(snapshot.verdicts)
    used = Counter(one.verdict for one in files)
    if len(files) < len(snapshot.verdicts):
        say("a file of several languages counts in each of them")
    say(
        f"{used['train']} files to learn from, {used['held-out']} held out to measure on, "
        f"{used['skip']} left out; --json gives the reason of each"
    )
    named = licences(snapshot)
    if named:
        say("licences named: " + ", ".join(f"{name} {count}" for name, count in named.items()))


def record(snapshot: Snapshot) -> dict[str, Any]:
    """All verdicts, one a file, and counts by language."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for one in snapshot.verdicts:
        reason = one.verdict if one.verdict != "skip" else f"skip: {one.rule}"
        counts[one.language or "-"][reason] += 1
    return {
        "files": [
            {**asdict(one), "path": printable_path(one.path)} for one in by_file(snapshot.verdicts)
        ],
        "languages": {name: dict(sorted(of.items())) for name, of in sorted(counts.items())},
        "licences": licences(snapshot),
        "listing": snapshot.listing,
    }


def by_file(verdicts: Iterable[FileVerdict]) -> list[FileVerdict]:
    """One verdict a file: of one in several languages, that of the part which is used."""
    first: dict[str, FileVerdict] = {}
    for one in verdicts:
        known = first.setdefault(one.path, one)
        if _ORDER.index(one.verdict) < _ORDER.index(known.verdict):
            first[one.path] = one
    return list(first.values())


def licences(snapshot: Snapshot) -> dict[str, int]:
    """How many of the files that are used name which licence, the most frequent first."""
    counts = Counter(one.licence for one in snapshot.verdicts if one.verdict != "skip")
    counts.pop(None, None)
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], str(pair[0])))
    return {str(name): count for name, count in ordered}


def _rows(verdicts: Iterable[FileVerdict]) -> list[tuple[str, str, str, int, str]]:
    groups: defaultdict[tuple[str, int, str], list[FileVerdict]] = defaultdict(list)
    for one in verdicts:
        groups[one.language or "-", _ORDER.index(one.verdict), one.rule].append(one)
    # Files that are used first, then the reasons by how much they take away.
    ordered = sorted(groups.items(), key=lambda pair: (*pair[0][:2], -len(pair[1]), pair[0][2]))
    return [
        (name, _ORDER[order], rule, len(found), _example(found[0]))
        for (name, order, rule), found in ordered
    ]


def _example(one: FileVerdict) -> str:
    path = printable_path(one.path)
    if len(path) > EXAMPLE_CHARACTERS:
        path = "…" + path[-EXAMPLE_CHARACTERS:]
    if one.value is None:
        return path
    return f"{path} ({one.value} masked)" if one.verdict != "skip" else f"{path} ({one.value})"
