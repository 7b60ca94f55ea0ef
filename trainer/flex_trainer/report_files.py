"""The files of a manifest, put together for people: by language, by rule, by licence."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# In the order in which people read them.
VERDICTS = ("train", "held-out", "skip")
MOST_VALUES = 3
MEANINGS = {
    "kept": "learnt from",
    "tune": "kept aside to end training in time",
    "test": "kept aside to measure on",
    "recent": "kept aside to measure on: files of the newest commits",
    "split": "kept aside to measure on",
    "binary": "no text: a NUL byte at this offset",
    "build-output": "a build's output, by its folder",
    "copy": "the same text as this file",
    "data-as-code": "tables or blobs, by the share of digits or of letters",
    "empty": "nothing in it",
    "encoding": "not in UTF-8",
    "generated": "written by a program",
    "ignored": "named by this ignore file",
    "lfs-pointer": "stands for a file that Git LFS has not fetched",
    "licence": "its licence",
    "markup": "XML or HTML under another name",
    "minified": "lines too long for people: characters of the longest, or of all on average",
    "missing": "gone when it was read",
    "near-duplicate": "nearly the same as this file",
    "nested-repository": "another repository's",
    "not-a-file": "no regular file",
    "other-language": "of a language that was not asked for",
    "outside": "outside of the repository",
    "repository-metadata": "of the version control itself",
    "secret": "holds a secret: the rule and the line, never the value",
    "symlink": "a symbolic link",
    "too-large": "too large: bytes",
    "too-little": "too short to learn from: characters",
    "unreadable": "could not be read",
    "vendored": "other people's code, by its folder",
}
NO_LICENCE = "none stated"


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file of the repository.

    Attributes:
        path: Bytes that are not UTF-8 are escaped already.
        value: What the rule measured; empty without.
    """

    path: str
    language: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Files with one verdict by one rule.

    Attributes:
        share: Of the files that are counted together.
        values: What the rule measured, in short.
    """

    verdict: str
    rule: str
    meaning: str
    files: tuple[File, ...]
    share: float
    values: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageFiles:
    """The files of one language."""

    name: str
    count: int
    groups: tuple[Group, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Licences:
    """What licences were found.

    Attributes:
        looked_at: Whether any file's licence is recorded.
        used: Files learnt from or measured on, by SPDX identifier.
        left_out: Files left out for their licence.
    """

    looked_at: bool
    used: dict[str, int]
    left_out: tuple[File, ...]


Entry = Mapping[str, Any]


def by_language(data: Sequence[Entry], languages: Sequence[str]) -> tuple[LanguageFiles, ...]:
    """Each language's files, the one with most first.

    Args:
        data: A manifest's.
        languages: The adapter's: where there is one, entries without a language are its own.
    """
    found: dict[str, list[Entry]] = {}
    for entry in data:
        found.setdefault(_language(entry, languages), []).append(entry)
    order = sorted(found, key=lambda name: (-len(found[name]), name))
    return tuple(
        LanguageFiles(name=name, count=len(found[name]), groups=by_rule(found[name], languages))
        for name in order
    )


def by_rule(data: Sequence[Entry], languages: Sequence[str]) -> tuple[Group, ...]:
    """Files by verdict and rule, in the order of ``VERDICTS``."""
    found: dict[tuple[str, str], list[Entry]] = {}
    for entry in data:
        key = (str(entry.get("verdict", "")), str(entry.get("rule", "")))
        found.setdefault(key, []).append(entry)

    def order(key: tuple[str, str]) -> tuple[int, int, str]:
        place = VERDICTS.index(key[0]) if key[0] in VERDICTS else len(VERDICTS)
        return place, -len(found[key]), key[1]

    return tuple(
        Group(
            verdict=verdict,
            rule=rule,
            meaning=MEANINGS.get(rule, ""),
            files=_files(found[verdict, rule], languages),
            share=len(found[verdict, rule]) / len(data),
            values=_in_short(_value(entry) for entry in found[verdict, rule]),
        )
        for verdict, rule in sorted(found, key=order)
    )


def licences(data: Sequence[Entry], languages: Sequence[str]) -> Licences:
    """The licences of what was used, and what was left out for its licence."""
    used = Counter(
        str(entry.get("licence") or NO_LICENCE) for entry in data if entry["verdict"] != "skip"
    )
    refused = [e for e in data if e["verdict"] == "skip" and e.get("rule") == "licence"]
    return Licences(
        looked_at=any("licence" in entry for entry in data),
        used=dict(sorted(used.items(), key=lambda pair: (-pair[1], pair[0]))),
        left_out=_files(refused, languages),
    )


def _language(entry: Entry, languages: Sequence[str]) -> str:
    known = entry.get("language")
    return str(known or (languages[0] if len(languages) == 1 else "not recorded"))


def _files(entries: Iterable[Entry], languages: Sequence[str]) -> tuple[File, ...]:
    return tuple(
        File(
            path=str(entry.get("path", "")),
            language=_language(entry, languages),
            value=str(_value(entry) or ""),
        )
        for entry in entries
    )


def _value(entry: Entry) -> Any:
    """What the rule measured; of a file that is used, how many spans were masked."""
    value = entry.get("value")
    if value is None or entry.get("verdict") == "skip":
        return value
    return f"{value} masked"


def _in_short(values: Iterable[Any]) -> str:
    """A range of numbers, or the most frequent texts."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    if all(isinstance(value, int | float) for value in known):
        low, high = min(known), max(known)
        return str(low) if low == high else f"{low} to {high}"
    counts = Counter(map(str, known)).most_common()
    shown = [name if count == 1 else f"{name} ({count})" for name, count in counts[:MOST_VALUES]]
    more = len(counts) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
