"""A typing trace: what somebody typed, where, and how long each pause was. Data, made once.

The times are part of the trace, so that both sides see the same person; only what they suggest, and
what of it is taken over, differs.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flex_assist.errors import DataError

FOLDER = Path(__file__).parent / "traces"


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key: its text (a line break brings its indentation along), and the pause after it."""

    text: str
    pause_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedEdit:
    """One change of a file, typed.

    Attributes:
        file: Which of the trace's files; another one than before is a jump.
        offset: Where, in the text as all edits before have left it.
        delete: So many characters from there on are deleted first.
        pause_ms: Spent looking before the first key.
    """

    file: int
    offset: int
    delete: int
    pause_ms: int
    keys: tuple[Key, ...]

    @property
    def text(self) -> str:
        """All that is typed."""
        return "".join(key.text for key in self.keys)


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedFile:
    """A file before the edits."""

    path: str
    language_id: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Files, and the edits in the order in which they were made."""

    name: str
    files: tuple[TracedFile, ...]
    edits: tuple[TracedEdit, ...]

    @property
    def characters(self) -> int:
        """So many are to be typed or accepted."""
        return sum(len(edit.text) for edit in self.edits)

    def shortened(self, seconds: float) -> "Trace":
        """The first edits, as many as can be typed in ``seconds``; at least a part of the first."""
        left_ms = seconds * 1000
        edits: list[TracedEdit] = []
        for edit in self.edits:
            keys: list[Key] = []
            left_ms -= edit.pause_ms
            for key in edit.keys:
                left_ms -= key.pause_ms
                if left_ms < 0 and (keys or edits):
                    break
                keys.append(key)
            if keys:
                edits.append(_with_keys(edit, tuple(keys)))
            if left_ms < 0:
                break
        return Trace(name=self.name, files=self.files, edits=tuple(edits))


def read(path: Path) -> Trace:
    """A trace from a JSON file.

    Raises:
        DataError: It cannot be read, or is no trace.
    """
    try:
        return _trace(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise DataError(
            f"{str(path)!r} is no typing trace: {error!r}; leave --trace out for the one that "
            "comes along"
        ) from error


def write(trace: Trace, path: Path) -> None:
    """Store a trace; ``read`` gives the same."""
    plain = {
        "name": trace.name,
        "files": [
            {"path": one.path, "language_id": one.language_id, "text": one.text.split("\n")}
            for one in trace.files
        ],
        "edits": [
            {
                "file": edit.file, "offset": edit.offset, "delete": edit.delete,
                "pause_ms": edit.pause_ms,
                "keys": [key.text for key in edit.keys],
                "pauses_ms": [key.pause_ms for key in edit.keys],
            }
            for edit in trace.edits
        ],
    }  # fmt: skip
    path.write_text(_compact(plain) + "\n", encoding="utf-8")


def _trace(plain: dict[str, Any]) -> Trace:
    files = tuple(
        TracedFile(
            path=str(one["path"]), language_id=str(one["language_id"]), text="\n".join(one["text"])
        )
        for one in plain["files"]
    )
    edits = tuple(
        TracedEdit(
            file=int(one["file"]), offset=int(one["offset"]), delete=int(one["delete"]),
            pause_ms=int(one["pause_ms"]),
            keys=tuple(
                Key(text=str(text), pause_ms=int(pause))
                for text, pause in zip(one["keys"], one["pauses_ms"], strict=True)
            ),
        )
        for one in plain["edits"]
    )  # fmt: skip
    if not edits or not all(0 <= edit.file < len(files) and edit.keys for edit in edits):
        raise ValueError("it has no edits, or one without keys or of a file that is not there")
    return Trace(name=str(plain["name"]), files=files, edits=edits)


def _with_keys(edit: TracedEdit, keys: tuple[Key, ...]) -> TracedEdit:
    return TracedEdit(
        file=edit.file, offset=edit.offset, delete=edit.delete, pause_ms=edit.pause_ms, keys=keys
    )


def _compact(plain: dict[str, Any]) -> str:
    """One line of text a line, and one edit a line: differences can be read."""
    files = ",\n".join(
        json.dumps({**one, "text": []})[:-3]
        + "[\n"
        + ",\n".join(json.dumps(line, ensure_ascii=False) for line in one["text"])
        + "\n]}"
        for one in plain["files"]
    )
    edits = ",\n".join(json.dumps(one, ensure_ascii=False) for one in plain["edits"])
    name = json.dumps(plain["name"])
    return f'{{"name": {name},\n"files": [\n{files}\n],\n"edits": [\n{edits}\n]}}'
