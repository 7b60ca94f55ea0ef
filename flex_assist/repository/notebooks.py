"""The code of Jupyter notebooks: code cells only, never outputs, by language.

Source: nbformat 4, and 3 with its work sheets; IPython's magics, of which no line is kept.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from flex_assist import language
from flex_assist.repository import markup
from flex_assist.repository.documents import Objection

# Outputs are most of a notebook, so its file may be larger than a source file.
MAX_FILE_BYTES = 32 * 1024 * 1024
# A value of two characters takes about 100 bytes once it is read.
MAX_JSON_VALUES = 2_000_000

NAMES = {"c++": "cpp", "c#": "csharp", "bash": "shell", "sh": "shell", "ipython": "python"}
# Where editors note a cell's own language.
CELL_KEYS = (
    ("vscode", "languageId"),
    ("polyglot_notebook", "kernelName"),
    ("dotnet_interactive", "language"),
)
CELL_MAGIC = re.compile(r"\s*+%%(\w++|!)[ \t]*+([^\n]*+)\n?")
# Cell magics that run their cell as Python.
TRANSPARENT = frozenset({"capture", "prun", "px", "pypy", "python", "python3", "time", "timeit"})
MAGIC_LANGUAGES = {
    "!": "shell", "bash": "shell", "sh": "shell", "sx": "shell", "system": "shell",
    "javascript": "javascript", "js": "javascript", "ruby": "ruby",
}  # fmt: skip
# Line magics, shell escapes and questions, alone or as what is assigned.
MAGIC_LINE = re.compile(
    r"[ \t]*+(?:%%?[A-Za-z_]|!|\?{1,2}[A-Za-z_%])|[ \t]*+%{0,2}[\w.]+\*?\?{1,2}[ \t]*+$"
    r"|[\w., \t]++=[ \t]*+(?:!|%[A-Za-z_])"
)
# Each alternative ends somewhere, so that no start is tried twice.
STRING_OR_COMMENT = re.compile(
    r'"""(?:\\.|[^\\])*?(?:"""|\\?\Z)'
    r"|'''(?:\\.|[^\\])*?(?:'''|\\?\Z)"
    r'|"(?:\\.|[^"\\\n])*+"?'
    r"|'(?:\\.|[^'\\\n])*+'?"
    r"|#[^\n]*+",
    re.DOTALL,
)
NOT_TEXT = re.compile("[\0\ud800-\udfff]")
PRINTABLE_NAME = re.compile(r"[\w+#. -]{1,32}")


def parts(text: str, limit_bytes: int | None = None) -> list[tuple[str, str]] | Objection:
    """Language and text of each code cell of a notebook's file, in their order.

    Args:
        limit_bytes: All code cells together may have so many.
    """
    notebook = _read(text)
    if isinstance(notebook, Objection):
        return notebook
    cells = _cells(notebook)
    if cells is None:
        return Objection(rule="notebook", value="no cells")
    named = _kernel(notebook)
    known = _language_named(named)
    codes = [(_own_language(cell, known), _code(cell)) for cell in cells]
    codes = [(own, code) for own, code in codes if code.strip()]
    if not codes:
        return Objection(rule="empty", value=0)
    size = sum(len(code.encode()) for _, code in codes)
    if limit_bytes is not None and size > limit_bytes:
        return Objection(rule="too-large", value=size)
    found = [part for own, code in codes for part in _parts_of_cell(code, own)]
    if not found:
        shown = named if PRINTABLE_NAME.fullmatch(named) else None
        return Objection(rule="not-source", value=shown)
    return found


def cell_language(code: str, own: str | None) -> tuple[str | None, int]:
    """The language of a cell, and where its code begins, behind a cell magic.

    Args:
        own: The language of cells that say nothing themselves. Only Python's have magics.
    """
    magic = CELL_MAGIC.match(code) if own == "python" else None
    if magic is None:
        return own, 0
    name, rest = magic[1].lower(), magic[2].split()
    if name in TRANSPARENT:
        return own, magic.end()
    if name == "script" and rest:
        named = language.by_shebang(f"#!{rest[0]}")
    elif name in ("writefile", "file") and rest:
        named = language.by_path(rest[-1])
    else:
        named = language.BY_NAME.get(MAGIC_LANGUAGES.get(name, ""))
    return (named.name if named else None), magic.end()


def _read(text: str) -> dict[str, Any] | Objection:
    values = text.count(",") + text.count("[") + text.count("{")
    if values > MAX_JSON_VALUES:
        return Objection(rule="notebook", value=f"more than {MAX_JSON_VALUES} values")
    try:
        notebook = json.loads(text)
    except RecursionError:
        return Objection(rule="notebook", value="nested too deeply")
    except ValueError:
        return Objection(rule="notebook", value="not JSON")
    if not isinstance(notebook, dict):
        return Objection(rule="notebook", value="no cells")
    return notebook


def _cells(notebook: dict[str, Any]) -> list[dict[str, Any]] | None:
    """The code cells, or None where there is no list of cells at all."""
    sheets = notebook.get("worksheets")
    holders = [notebook, *(sheets if isinstance(sheets, list) else ())]
    found = [holder.get("cells") for holder in holders if isinstance(holder, dict)]
    lists = [each for each in found if isinstance(each, list)]
    if not lists:
        return None
    cells = [cell for each in lists for cell in each if isinstance(cell, dict)]
    return [cell for cell in cells if cell.get("cell_type") == "code"]


def _code(cell: dict[str, Any]) -> str:
    source = cell.get("source", cell.get("input"))
    if isinstance(source, list):
        source = "".join(line for line in source if isinstance(line, str))
    if not isinstance(source, str):
        return ""
    return NOT_TEXT.sub("\ufffd", source.replace("\r\n", "\n").replace("\r", "\n"))


def _kernel(notebook: dict[str, Any]) -> str:
    """What the notebook says of its language; Python's name where it says nothing."""
    metadata = notebook.get("metadata")
    keys = (("language_info", "name"), ("kernelspec", "language"), ("kernelspec", "name"))
    said = (_nested(metadata, outer, inner) for outer, inner in keys)
    return next((name for name in said if name), "python")


def _own_language(cell: dict[str, Any], default: str | None) -> str | None:
    said = [_nested(cell.get("metadata"), outer, inner) for outer, inner in CELL_KEYS]
    said.append(_nested({"cell": cell}, "cell", "language"))
    named = next((name for name in said if name), "")
    return _language_named(named) if named else default


def _nested(values: object, outer: str, inner: str) -> str:
    group = values.get(outer) if isinstance(values, dict) else None
    value = group.get(inner) if isinstance(group, dict) else None
    return value.strip() if isinstance(value, str) else ""


def _language_named(name: str) -> str | None:
    """Our name of what a kernel or an editor calls a language, versions and all."""
    plain = name.lower().rstrip("0123456789.")
    plain = NAMES.get(plain, plain)
    if plain in language.BY_NAME:
        return plain
    found = language.resolve(plain, None)
    return found.name if found else None


def _parts_of_cell(code: str, own: str | None) -> Iterator[tuple[str, str]]:
    magic = CELL_MAGIC.match(code) if own == "python" else None
    if magic is not None and magic[1].lower() == "html":
        yield from markup.parts(code[magic.end() :], "html")
        return
    named, start = cell_language(code, own)
    if named is None:
        return
    code = code[start:]
    # What a cell writes to a file or gives to another program has no magics.
    if named == own == "python" and (magic is None or magic[1].lower() in TRANSPARENT):
        code = _without_magics(code)
    if part := markup.without_blank_ends(code):
        yield named, part


def _without_magics(code: str) -> str:
    """Python alone. A ``%`` in brackets or in a string is none of IPython's."""
    masked = STRING_OR_COMMENT.sub(_fillers, code).split("\n")
    kept: list[str] = []
    depth, goes_on = 0, False
    for line, mask in zip(code.split("\n"), masked, strict=True):
        # A filler in front: the line begins inside of a string, or is a comment.
        outside = depth == 0 and not mask.lstrip().startswith("\1")
        outside = outside and not (kept and kept[-1].endswith("\\"))
        if goes_on or (outside and MAGIC_LINE.match(line)):
            goes_on = line.endswith("\\")
            continue
        kept.append(line)
        depth = max(0, depth + sum(map(mask.count, "([{")) - sum(map(mask.count, ")]}")))
    return "\n".join(kept)


def _fillers(found: re.Match[str]) -> str:
    return re.sub(r"[^\n]", "\1", found[0])
