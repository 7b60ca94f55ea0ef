"""Which language a cursor is in, and what of the document is code of that language."""

from dataclasses import dataclass
from pathlib import PurePath

from flex_assist.complete import embedded, fences
from flex_assist.language import BY_LSP_ID, BY_NAME, Language, by_shebang, by_word, resolve
from flex_assist.repository import containers, markup, notebooks

# Longer ones are taken for prose: they are looked through at each keystroke.
MOST_MARKDOWN_CHARACTERS = 1 << 20
LONGEST_SHEBANG = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """The text around a cursor, as training showed it to the model.

    Attributes:
        language: None where it is unknown, and in the markup of a file that also holds code.
        stops: Texts that a completion cannot go beyond: they end the string that the code is in.
        outer: The file's own code around that string. It is what counts where nobody has learnt
            the string's language.
    """

    language: Language | None
    before: str
    after: str
    stops: tuple[str, ...] = ()
    outer: "Region | None" = None


def at_cursor(
    before: str, after: str, *, path: PurePath | str | None, language_id: str | None
) -> Region:
    """The code around a cursor: a whole document, or what of it is code of one language.

    That is a script or style, a notebook's cell, fenced code, or code in a string.

    Args:
        before, after: In LF line ends.
        language_id: The editor's; it is believed before the name.
    """
    return _with_string(_in_document(before, after, path, language_id))


def _in_document(
    before: str, after: str, path: PurePath | str | None, language_id: str | None
) -> Region:
    if fences.is_markdown(path, language_id):
        return _in_fence(before, after)
    kind = _kind(path, language_id)
    if kind == "notebook":
        return _in_cell(before, after, resolve(language_id, path))
    if kind is None:
        known = resolve(language_id, path) or by_shebang(_first_line(before, after))
        return Region(language=known, before=before, after=after)
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
        return resolve(language_id, path) or by_shebang(_first_line(text, ""))
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


def _in_fence(before: str, after: str) -> Region:
    """Fenced code is a document of its own."""
    whole = len(before) + len(after)
    found = fences.at_cursor(before, after) if whole <= MOST_MARKDOWN_CHARACTERS else None
    if found is None:
        return Region(language=None, before=before, after=after)
    return Region(language=by_word(found.word), before=found.before, after=found.after)


def _with_string(region: Region) -> Region:
    """The code in the string around the cursor, if there is any."""
    name = region.language.name if region.language else ""
    found = embedded.at_cursor(name, region.before, region.after)
    if found is None or found.language not in BY_NAME:
        return region
    return Region(
        language=BY_NAME[found.language],
        before=found.before,
        after=found.after,
        stops=(found.closing, "\n") if found.one_line else (found.closing,),
        outer=region,
    )


def _first_line(before: str, after: str) -> str:
    start = before[:LONGEST_SHEBANG]
    return (start + after[: LONGEST_SHEBANG - len(start)]).partition("\n")[0]
