"""From a listing to texts: each file is looked at once, and kept or objected to."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path

from flex_assist import language
from flex_assist.config import MiningSettings
from flex_assist.language import Language
from flex_assist.repository import duplicates, filters, licences, masking, secrets
from flex_assist.repository.documents import Objection
from flex_assist.repository.reading import TreeReader
from flex_assist.repository.walk import Entry, Listing

PROGRESS_STEP = 32
SHEBANG_BYTES = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file on its way through the rules: its text, or why it is left out."""

    path: str
    language: str | None = None
    text: str = ""
    sha256: str = ""
    licence: str | None = None
    masked: int = 0
    objection: Objection | None = None


def examine(
    root: Path,
    listing: Listing,
    settings: MiningSettings,
    languages: Collection[str] | None,
    progress: Callable[[int, int], None] | None,
) -> list[Source]:
    """Each entry of ``listing`` as a source, in its order.

    Args:
        languages: Names; files of others are left out. None takes all.
        progress: Called now and then with the files done and the files in all.
    """
    reader = TreeReader(root)
    total = len(listing.entries)
    packages = frozenset(
        entry.path.rpartition("/")[0]
        for entry in listing.entries
        if entry.path.endswith("/__init__.py")
    )
    sources = []
    for done, entry in enumerate(listing.entries):
        if progress is not None and done % PROGRESS_STEP == 0:
            progress(done, total)
        sources.append(_examine_one(entry, reader, settings, languages, packages))
    if progress is not None:
        progress(total, total)
    return sources


def _examine_one(
    entry: Entry,
    reader: TreeReader,
    settings: MiningSettings,
    languages: Collection[str] | None,
    packages: frozenset[str],
) -> Source:
    source = Source(path=entry.path, objection=entry.objection)
    found = entry.objection or _named_secret(entry.path) or filters.check_path(entry.path, packages)
    if found is not None:
        return replace(source, objection=found)
    known = _language_of(entry.path, reader)
    if known is None:
        return replace(source, objection=Objection(rule="not-source"))
    source = replace(source, language=known.name)
    if languages is not None and known.name not in languages:
        return replace(source, objection=Objection(rule="other-language", value=known.name))
    content = _content(entry.path, reader, settings.max_file_kib * 1024)
    if isinstance(content, Objection):
        return replace(source, objection=content)
    text, masked = masking.mask(content)
    return replace(
        source,
        text=text,
        sha256=duplicates.digest(text),
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
    text = filters.decode(data)
    if isinstance(text, Objection):
        return text
    found = filters.check_text(text)
    if found is not None:
        return found
    secret = secrets.contains_secret(text)
    return text if secret is None else Objection(rule="secret", value=secret.describe())
