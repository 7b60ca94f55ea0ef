"""Files that hold code of several languages: notebooks, and scripts and styles in markup.

Training takes the parts of one language as one text; serving cuts an open file to the same text,
so that both show the model the same.
"""

from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

from flex_assist.repository import markup, notebooks
from flex_assist.repository.documents import Objection

Kind = Literal["notebook"] | markup.Kind

EXTENSIONS: dict[str, Kind] = {
    ".ipynb": "notebook",
    ".vue": "vue",
    ".svelte": "svelte",
    ".astro": "astro",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
}
# The ``languageId`` of a whole document; a notebook's cells have the ids of their languages.
LSP_IDS: dict[str, markup.Kind] = {
    "vue": "vue", "svelte": "svelte", "astro": "astro", "html": "html", "xhtml": "html",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A cursor in the code of one language: what ``extract`` gives, cut in two at the cursor."""

    language: str
    before: str
    after: str


def kind_of(path: PurePath | str) -> Kind | None:
    """What a file holds code in, by its name; None where the whole file is one language's."""
    return EXTENSIONS.get(PurePath(path).suffix.lower())


def max_file_bytes(path: PurePath | str, limit_bytes: int) -> int:
    """How large a file may be whose code may have ``limit_bytes``."""
    return (
        max(limit_bytes, notebooks.MAX_FILE_BYTES) if kind_of(path) == "notebook" else limit_bytes
    )


def extract(
    path: PurePath | str, text: str, *, limit_bytes: int | None = None
) -> dict[str, str] | Objection:
    """Text by language, or why there is none.

    The parts of one language stand in the file's order, a blank line between them, each as it is
    written there, but for blank lines at its ends.

    Args:
        limit_bytes: All parts together may have so many.
    """
    kind = kind_of(path)
    if kind is None:
        return Objection(rule="not-source")
    if kind == "notebook":
        found: list[tuple[str, str]] | Objection = notebooks.parts(text, limit_bytes)
    else:
        found = markup.parts(text, kind)
    if isinstance(found, Objection):
        return found
    if not found:
        return Objection(rule="not-source")
    size = sum(len(part.encode("utf-8", "surrogatepass")) for _, part in found)
    if limit_bytes is not None and size > limit_bytes:
        return Objection(rule="too-large", value=size)
    by_language: dict[str, list[str]] = {}
    for language, part in found:
        by_language.setdefault(language, []).append(part)
    return {language: _joined(own) for language, own in by_language.items()}


def language_at(path: PurePath | str, text: str, offset: int) -> str | None:
    """The language of the code around an offset; None in markup, and in a notebook's JSON."""
    kind = kind_of(path)
    if kind is None or kind == "notebook":
        return None
    region = _region_at(list(markup.regions(text, kind)), offset)
    return region.language if region else None


def part_at(kind: markup.Kind, before: str, after: str) -> Part | None:
    """The code around a cursor in a file of ``kind``; None where it is in no code.

    A script that is not closed yet reaches to the end.
    """
    text, offset = before + after, len(before)
    found = list(markup.regions(text, kind))
    here = _region_at(found, offset)
    if here is None or here.language is None:
        return None
    same = [each for each in found if each.closed and each.language == here.language]
    earlier = [_stripped(text, each) for each in same if each.end < here.start]
    later = [_stripped(text, each) for each in same if each.start > here.end]
    own = markup.without_blank_start(text[here.start : offset])
    rest = text[offset : here.end].rstrip() + "\n"
    return Part(
        language=here.language,
        before="".join(f"{part}\n\n" for part in earlier if part) + own,
        after=rest + "".join(f"\n{part}\n" for part in later if part),
    )


def _region_at(found: list[markup.Region], offset: int) -> markup.Region | None:
    return next((each for each in found if each.start <= offset <= each.end), None)


def _stripped(text: str, region: markup.Region) -> str:
    return markup.without_blank_ends(text[region.start : region.end])


def _joined(parts: list[str]) -> str:
    text = "\n\n".join(parts) + "\n"
    return text.replace("\r\n", "\n").replace("\r", "\n")
