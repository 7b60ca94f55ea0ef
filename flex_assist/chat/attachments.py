"""Files named in a message: ``@src/app.py``, ``@src/app.py:10-40``, ``@"a name with blanks.py"``.

Only regular files inside the repository are read, never through a link, and none that the
repository ignores, that holds a secret, or that is not text.
"""

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flex_assist.chat.project_files import ProjectFiles
from flex_assist.errors import DataError
from flex_assist.language import Language, by_path, by_shebang
from flex_assist.repository.documents import Objection
from flex_assist.repository.reading import TreeReader
from flex_assist.repository.secrets import contains_secret

MAX_ATTACHMENT_BYTES = 262_144

# Not within a word, so that mail addresses are none; not within code marks, see ``references``.
_REFERENCE = re.compile(r'(?<![\w@./\\-])@(?:"([^"\n]+)"(:\d+(?:-\d+)?)?|([^\s"`@]+))')
_RANGE = re.compile(r"^(.*?):(\d+)(?:-(\d+))?$")
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)
_TRAILING = ".,;:!?)]}>'"
_REASONS = {
    "missing": "there is no such file in the repository; write it in `code marks` if it is none",
    "outside": "it is outside the repository",
    "symlink": "it is a link, or in a folder that is one; name the file itself",
    "not-a-file": "it is no regular file; name a file",
}
_OTHERWISE = "it cannot be read"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What a message asks to attach.

    Attributes:
        path: As written, relative to the repository's root.
        lines: First and last line, from 1, both included; None for the whole file.
    """

    path: str
    lines: tuple[int, int] | None = None

    @property
    def label(self) -> str:
        """For people and for the prompt."""
        return self.path if self.lines is None else f"{self.path}:{self.lines[0]}-{self.lines[1]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """The text of a file, or of some of its lines.

    Attributes:
        path: Relative to the repository's root, with ``/``.
    """

    path: str
    label: str
    text: str
    language: Language | None


def references(message: str) -> list[Reference]:
    """The files that a message names, each once, in their order. Marked code is not looked at."""
    text = _CODE.sub(lambda code: " " * len(code.group()), message)
    found: dict[Reference, None] = {}
    for quoted, lines, bare in _REFERENCE.findall(text):
        written = f"{quoted}{lines}" if quoted else bare.rstrip(_TRAILING)
        if written:
            found[_reference(written)] = None
    return list(found)


def attach(message: str, root: Path, files: ProjectFiles) -> tuple[Attachment, ...]:
    """Read all files that a message names.

    Words such as ``@dataclass`` that are no file and do not look like one are left alone.

    Raises:
        DataError: A file cannot or must not be attached; says which and why.
    """
    reader = TreeReader(root)
    wanted = [
        reference
        for reference in references(message)
        if _looks_like_file(reference.path) or _is_there(reader, reference.path)
    ]
    known = files.paths() if wanted else ()
    return tuple(_attach(reference, reader, known) for reference in wanted)


def _is_there(reader: TreeReader, written: str) -> bool:
    obstacle = reader.obstacle(_normal(written))
    return obstacle is None or obstacle.rule != "missing"


def _reference(written: str) -> Reference:
    found = _RANGE.match(written)
    if not found:
        return Reference(path=written)
    first = int(found[2])
    last = int(found[3]) if found[3] else first
    return Reference(path=found[1], lines=(first, last))


def _looks_like_file(path: str) -> bool:
    return "/" in path or by_path(path) is not None


def _attach(reference: Reference, reader: TreeReader, known: Sequence[str]) -> Attachment:
    path = _normal(reference.path)
    data = reader.read(path, MAX_ATTACHMENT_BYTES + 1)
    if isinstance(data, Objection):
        raise DataError(_refusal(reference.path, _REASONS.get(data.rule, _OTHERWISE)))
    if path not in known:
        raise DataError(_refusal(reference.path, "the repository's ignore rules leave it out"))
    if len(data) > MAX_ATTACHMENT_BYTES:
        size = f"it has {reader.size(path) // 1024} KiB"
        limit = f"more than {MAX_ATTACHMENT_BYTES // 1024} KiB"
        raise DataError(_refusal(reference.path, f"{size}, {limit}"))
    text = _decoded(data, reference.path)
    if finding := contains_secret(text):
        why = f"line {finding.line} looks like a secret ({finding.rule})"
        raise DataError(_refusal(reference.path, why))
    language = by_path(path) or by_shebang(text.split("\n", 1)[0])
    return Attachment(
        path=path, label=reference.label, text=_lines(text, reference), language=language
    )


def _normal(written: str) -> str:
    """Without ``./`` and ``..``; what leads out keeps its ``..``, and the reader refuses it."""
    return posixpath.normpath(written)


def _decoded(data: bytes, written: str) -> str:
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise DataError(_refusal(written, "it is not UTF-8 text")) from error
    if "\0" in text:
        raise DataError(_refusal(written, "it is not text"))
    return text


def _lines(text: str, reference: Reference) -> str:
    if reference.lines is None:
        return text
    first, last = reference.lines
    lines = text.split("\n")
    if not 1 <= first <= min(last, len(lines)):
        why = f"it has lines 1 to {len(lines)}, not {first} to {last}"
        raise DataError(_refusal(reference.path, why))
    return "\n".join(lines[first - 1 : last]) + "\n"


def _refusal(path: str, why: str) -> str:
    return f"{path!r} cannot be attached: {why}"
