"""A report about completions that people can send to somebody: no code, no names, no places.

What goes in is named here; everything else stays out. Files are numbered, keeping only a known
ending; of texts for people whatever is quoted or looks like a path is blacked out.
"""

import platform
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import Any

from flex_assist import __version__, language
from flex_assist.config import Settings, as_dict
from flex_assist.files import write_json_atomically
from flex_assist.locations import Locations
from flex_assist.models.catalogue import catalogue

FORMAT = 1
# Sections of the settings that say how completions are made.
SECTIONS = ("model", "engine", "prompt", "completion")
# Words that are nobody's code, names or places.
HARMLESS = frozenset(language.BY_NAME) | {"shared", "base", "none", "auto", "adapter", "merged"}
_QUOTED = re.compile(r"'[^'\n]*'?|\"[^\"\n]*\"?|`[^`\n]*`?")
_PATH = re.compile(r"(?:[A-Za-z]:)?[^\s:,;()]*[/\\][^\s:,;()]*")
_RECORD = ("id", "repeats", "line", "character", "surface", "outcome", "accepted", "asked_at")
_COMPLETION = ("form", "source", "timings_ms", "prompt_tokens", "reused_tokens",
               "completion_tokens")  # fmt: skip
_CHUNK = ("first_line", "last_line", "score", "tokens")


def write_report(
    records: Iterable[Mapping[str, Any]], settings: Settings, locations: Locations
) -> Path:
    """Write a report into the cache folder, for its owner alone (0600), and give its path.

    Args:
        records: Plain data, the oldest first: ``uri``, ``line``, ``outcome``, ``note`` ... and
            ``completion`` (a ``Completion`` as plain data).
    """
    now = datetime.now(UTC)
    path = locations.cache / "reports" / f"completions-{now:%Y%m%dT%H%M%S%f}.json"
    write_json_atomically(path, report(records, settings))
    return path


def report(records: Iterable[Mapping[str, Any]], settings: Settings) -> dict[str, Any]:
    """The report itself."""
    names = _Names()
    known = as_dict(settings)
    return {
        "format": FORMAT,
        "version": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "settings": {section: _plain(known[section]) for section in SECTIONS},
        "completions": [_record(record, names) for record in records],
    }


class _Names:
    """Numbers for files, the same for the same file within a report."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def file(self, path: str) -> str:
        number = self._numbers.setdefault(path, len(self._numbers) + 1)
        known = language.by_path(PurePath(path).name) is not None
        return f"file-{number}{PurePath(path).suffix.lower() if known else ''}"


def _record(record: Mapping[str, Any], names: _Names) -> dict[str, Any]:
    plain = {name: record[name] for name in _RECORD if name in record}
    plain["file"] = names.file(str(record["uri"]))
    plain["note"] = without_names(str(record.get("note", "")))
    completion = record.get("completion")
    plain["completion"] = _completion(completion, names) if completion else None
    return plain


def _completion(completion: Mapping[str, Any], names: _Names) -> dict[str, Any]:
    plain = {name: completion[name] for name in _COMPLETION if name in completion}
    for name in ("language", "adapter"):
        value = completion.get(name)
        plain[name] = value if value is None or value in HARMLESS else "…"
    plain["reason"] = without_names(completion["reason"])
    plain["notes"] = [without_names(note) for note in completion["notes"]]
    plain["shown_characters"] = len(completion["text"])
    made = completion.get("explanation")
    if made:
        plain["explanation"] = {
            "parts": made["parts"],
            "written": made["written"],
            "masked": made["masked"],
            "ended_by": made["ended_by"],
            "nothing": without_names(made["nothing"]),
            "chunks": [_chunk(chunk, names) for chunk in made["chunks"]],
        }
    return plain


def _chunk(chunk: Mapping[str, Any], names: _Names) -> dict[str, Any]:
    plain = {name: chunk[name] for name in _CHUNK}
    # "defines NAME": the name is code.
    return {**plain, "file": names.file(chunk["path"]), "why": chunk["why"].partition(" ")[0]}


def without_names(text: str) -> str:
    """A message with whatever is quoted, and all paths, blacked out."""
    text = _QUOTED.sub(lambda found: found[0] if found[0][1:-1] in HARMLESS else "'…'", text)
    return _PATH.sub("…/…", text)


def _plain(value: Any) -> Any:
    """Numbers and switches as they are; of words only those that everybody has."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, str):
        return value if value in HARMLESS or value in catalogue() else "…"
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value
