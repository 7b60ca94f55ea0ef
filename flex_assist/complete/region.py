"""Which language a cursor is in, and what of the document is code of that language."""

from dataclasses import dataclass
from pathlib import PurePath

from flex_assist.language import BY_LSP_ID, BY_NAME, Language, resolve
from flex_assist.repository import containers, markup, notebooks


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """The text around a cursor, as training showed it to the model.

    Attributes:
        language: None where it is unknown, and in the markup of a file that also holds code.
    """

    language: Language | None
    before: str
    after: str


def at_cursor(
    before: str, after: str, *, path: PurePath | str | None, language_id: str | None
) -> Region:
    """The code around a cursor: a whole document, a script or style in it, a notebook's cell.

    Args:
        before, after: In LF line ends.
        language_id: The editor's; it is believed before the name.
    """
    kind = _kind(path, language_id)
    if kind == "notebook":
        return _in_cell(before, after, resolve(language_id, path))
    if kind is None:
        return Region(language=resolve(language_id, path), before=before, after=after)
    part = containers.part_at(kind, before, after)
    if part is None:
        return Region(language=None, before=before, after=after)
    return Region(language=BY_NAME[part.language], before=part.before, after=part.after)


def first_language(
    text: str, *, path: PurePath | str | None, language_id: str | None
) -> Language | None:
    """The language of a document, or of the first code in it."""
    kind = _kind(path, language_id)
    if kind is None or kind == "notebook":
        return resolve(language_id, path)
    named = (region.language for region in markup.regions(text, kind))
    return next((BY_NAME[name] for name in named if name), None)


def _kind(path: PurePath | str | None, language_id: str | None) -> containers.Kind | None:
    own = containers.LSP_IDS.get(language_id or "")
    named = containers.kind_of(path) if path is not None else None
    if own is not None or named == "notebook":
        return own or named
    return None if language_id in BY_LSP_ID else named


def _in_cell(before: str, after: str, language: Language | None) -> Region:
    """A notebook's cell is a document of its own; its first line may name another language."""
    own = language.name if language else None
    named, start = notebooks.cell_language(before + after, own)
    if len(before) < start:
        return Region(language=language, before=before, after=after)
    known = BY_NAME[named] if named else None
    return Region(language=known, before=before[start:], after=after)
