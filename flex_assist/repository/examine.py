"""From a listing to texts: each file is looked at once, and kept or objected to.

Many files are shared out to several processes (``workers.py``), few are not worth their start.
"""

import contextlib
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flex_assist import language
from flex_assist.config import MiningSettings
from flex_assist.language import Language
from flex_assist.repository import (
    containers,
    duplicates,
    filters,
    licences,
    masking,
    secrets,
    workers,
)
from flex_assist.repository.documents import Objection
from flex_assist.repository.reading import TreeReader
from flex_assist.repository.walk import Listing

PROGRESS_STEP = 32
SHEBANG_BYTES = 128
MIN_FILES_FOR_WORKERS = 1500


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file on its way through the rules: its text, or why it is left out.

    Attributes:
        packed: The text again, compressed, where ``Wishes.keep_text`` is off; see ``content``.
        sketch: Of ``duplicates.sketch``, where it was wished for.
    """

    path: str
    language: str | None = None
    text: str = ""
    packed: bytes = b""
    sha256: str = ""
    sketch: bytes = b""
    licence: str | None = None
    masked: int = 0
    objection: Objection | None = None

    def content(self) -> str:
        """The text, kept or not."""
        return zlib.decompress(self.packed).decode() if self.packed else self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What is to be found out.

    Attributes:
        languages: Names; files of others are left out. None takes all.
        packages: Folders that hold an ``__init__.py``.
        keep_text: Off where texts are only compared: they are kept compressed, which is a quarter.
        sketch: Whether near-duplicates will be looked for.
    """

    max_file_bytes: int
    languages: frozenset[str] | None
    packages: frozenset[str]
    keep_text: bool = True
    sketch: bool = True

    def wants(self, language: str) -> bool:
        """Whether files of a language are to be looked at."""
        return self.languages is None or language in self.languages


def examine(
    root: Path,
    listing: Listing,
    settings: MiningSettings,
    languages: Collection[str] | None,
    progress: Callable[[int, int], None] | None,
    *,
    keep_text: bool = True,
    sketch: bool = True,
) -> list[Source]:
    """Each entry of ``listing`` as a source, in its order.

    Args:
        languages, keep_text, sketch: See ``Wishes``.
        progress: Called now and then with the files done and the files in all.
    """
    wishes = Wishes(
        max_file_bytes=settings.max_file_kib * 1024,
        languages=None if languages is None else frozenset(languages),
        packages=frozenset(
            entry.path.rpartition("/")[0]
            for entry in listing.entries
            if entry.path.endswith("/__init__.py")
        ),
        keep_text=keep_text,
        sketch=sketch,
    )
    paths = [entry.path for entry in listing.entries if entry.objection is None]
    answers = _told(_examined(root, paths, wishes), progress, len(paths))
    found = dict(answers)
    numbers = iter(range(len(paths)))
    return [
        source
        for entry in listing.entries
        for source in (
            found[next(numbers)]
            if entry.objection is None
            else [Source(path=entry.path, objection=entry.objection)]
        )
    ]


def _told(
    answers: Iterator[tuple[int, list[Source]]],
    progress: Callable[[int, int], None] | None,
    total: int,
) -> Iterator[tuple[int, list[Source]]]:
    for done, answer in enumerate(answers):
        if progress is not None and done % PROGRESS_STEP == 0:
            progress(done, total)
        yield answer
    if progress is not None:
        progress(total, total)


def _examined(
    root: Path, paths: Sequence[str], wishes: Wishes
) -> Iterator[tuple[int, list[Source]]]:
    """Number of a path, and its sources, in any order."""
    left = set(range(len(paths)))
    if len(paths) >= MIN_FILES_FOR_WORKERS:
        request = _to_request(root, wishes)
        asked = workers.ask(_WORKER, request, paths, workers.TIME_LIMIT_S)
        with contextlib.suppress(workers.NoWorkersError), contextlib.closing(asked):
            for number, answer in asked:
                left.remove(number)
                yield number, _from_answer(paths[number], answer)
    reader = TreeReader(root)
    for number in sorted(left):
        yield number, examine_file(paths[number], reader, wishes)


def examine_file(path: str, reader: TreeReader, wishes: Wishes) -> list[Source]:
    """What a file holds."""
    source = Source(path=path)
    found = _named_secret(path) or filters.check_path(path, wishes.packages)
    if found is not None:
        return [replace(source, objection=found)]
    if containers.kind_of(path) is not None:
        return _parts(source, reader, wishes)
    known = _language_of(path, reader)
    if known is None:
        return [replace(source, objection=Objection(rule="not-source"))]
    source = replace(source, language=known.name)
    if not wishes.wants(known.name):
        return [replace(source, objection=Objection(rule="other-language", value=known.name))]
    content = _content(path, reader, wishes.max_file_bytes)
    if isinstance(content, Objection):
        return [replace(source, objection=content)]
    found = filters.check_text(content) or _secret(content)
    return [_judged(source, content, found, wishes)]


def _parts(source: Source, reader: TreeReader, wishes: Wishes) -> list[Source]:
    """A source for each language of a file that holds several."""
    limit_bytes = containers.max_file_bytes(source.path, wishes.max_file_bytes)
    content = _content(source.path, reader, limit_bytes)
    if isinstance(content, Objection):
        return [replace(source, objection=content)]
    parts = containers.extract(source.path, content, limit_bytes=wishes.max_file_bytes)
    if isinstance(parts, Objection):
        return [replace(source, objection=parts)]
    wanted = {name: text for name, text in parts.items() if wishes.wants(name)}
    if not wanted:
        others = ", ".join(parts)
        return [replace(source, objection=Objection(rule="other-language", value=others))]
    # Wherever it stands, a file with a secret is left out whole, as others are: one verdict, of no
    # part's language. A notebook's parts are looked at for themselves: its file holds them in JSON,
    # where quotes are escaped.
    secret = next(filter(None, map(_secret, (content, *parts.values()))), None)
    if secret is not None:
        return [replace(source, objection=secret)]
    found = [
        _judged(replace(source, language=name), text, filters.check_text(text), wishes)
        for name, text in wanted.items()
    ]
    # The file's licence stands above its parts.
    named = licences.of_text(content)
    return [replace(one, licence=one.licence or named) for one in found]


def _judged(source: Source, content: str, found: Objection | None, wishes: Wishes) -> Source:
    """A source with its text, or with what was found against it."""
    return _kept(source, content, wishes) if found is None else replace(source, objection=found)


def _secret(content: str) -> Objection | None:
    found = secrets.contains_secret(content)
    return None if found is None else Objection(rule="secret", value=found.describe())


def _kept(source: Source, content: str, wishes: Wishes) -> Source:
    text, masked = masking.mask(content)
    return replace(
        source,
        text=text if wishes.keep_text else "",
        packed=b"" if wishes.keep_text else zlib.compress(text.encode(), 1),
        sha256=duplicates.digest(text),
        sketch=duplicates.sketch(text) if wishes.sketch else b"",
        licence=licences.of_text(content),
        masked=masked.total(),
    )


def _named_secret(path: str) -> Objection | None:
    """A secret in the path itself, which prompts and records would show."""
    found = secrets.contains_secret(path)
    return None if found is None else Objection(rule="secret", value=f"{found.rule} in its path")


def _language_of(path: str, reader: TreeReader) -> Language | None:
    known = language.by_path(path)
    if known is not None or "." in path.rpartition("/")[2]:
        return known
    start = reader.read(path, SHEBANG_BYTES)
    if not isinstance(start, bytes):
        return None
    return language.by_shebang(start.split(b"\n")[0].decode("utf-8", "replace"))


def _content(path: str, reader: TreeReader, limit_bytes: int) -> str | Objection:
    size = reader.size(path)
    if size > limit_bytes:
        return Objection(rule="too-large", value=size)
    data = reader.read(path, limit_bytes + 1)
    if isinstance(data, Objection):
        return data
    if len(data) > limit_bytes:
        return Objection(rule="too-large", value=len(data))
    return filters.decode(data)


_WORKER = "flex_assist.repository.worker"


def _to_request(root: Path, wishes: Wishes) -> dict[str, Any]:
    return {
        "root": str(root.absolute()),
        "max_file_bytes": wishes.max_file_bytes,
        "languages": None if wishes.languages is None else sorted(wishes.languages),
        "packages": sorted(wishes.packages),
        "keep_text": wishes.keep_text,
        "sketch": wishes.sketch,
    }


def wishes_of(request: Mapping[str, Any]) -> Wishes:
    """What another process wishes."""
    languages = request["languages"]
    return Wishes(
        max_file_bytes=request["max_file_bytes"],
        languages=None if languages is None else frozenset(languages),
        packages=frozenset(request["packages"]),
        keep_text=request["keep_text"],
        sketch=request["sketch"],
    )


def to_record(source: Source) -> dict[str, Any]:
    """A source on its way to another process."""
    record = {name: getattr(source, name) for name in Source.__slots__ if name != "objection"}
    if source.objection is not None:
        record["objection"] = [source.objection.rule, source.objection.value]
    return record


def _from_answer(path: str, answer: Any) -> list[Source]:
    if isinstance(answer, workers.Failure):
        return [Source(path=path, objection=Objection(rule="failed", value=answer.reason))]
    return [_from_record(record) for record in answer]


def _from_record(record: Mapping[str, Any]) -> Source:
    objection = record.get("objection")
    if objection is None:
        return Source(**record)
    rule, value = objection
    return Source(**{**record, "objection": Objection(rule=rule, value=value)})
