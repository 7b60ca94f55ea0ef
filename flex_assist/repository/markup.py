"""Scripts and styles inside of markup: where they lie, and in which language.

A scan of our own, not a grammar: markup of Vue, Svelte and Astro is no proper HTML, a script that
is still being typed has no end, and the tree-sitter grammar of HTML takes time that grows with the
square of what is never closed. Here every character is looked at a bounded number of times.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["html", "vue", "svelte", "astro"]

# What may begin a region, and what hides everything up to its end.
OPENING = re.compile(r"<!--|<\?(?:php\b|=)|<(script|style)(?=[\s/>])", re.IGNORECASE)
CLOSING = {name: re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE) for name in ("script", "style")}
# The end of a start tag, an attribute, or a stray character. No part of it goes back.
ATTRIBUTE = re.compile(
    r"""[\s/]*+(?:
        (?P<end>>)
        | (?P<name>[^\s=>/"']++)
          (?:\s*+=\s*+(?:"(?P<double>[^"]*+)"|'(?P<single>[^']*+)'|(?P<bare>[^\s"'=<>`]++)))?
        | [^\s/]
    )""",
    re.VERBOSE,
)
FRONT_MATTER = re.compile(r"\s*+---[ \t]*+\n")
FRONT_MATTER_END = re.compile(r"^---[ \t]*+$", re.MULTILINE)
BLANK_START = re.compile(r"(?:[ \t]*+\n)*+")

SCRIPTS = {
    **dict.fromkeys(
        ("ts", "typescript", "text/typescript", "application/typescript"), "typescript"
    ),
    **dict.fromkeys(("tsx", "text/tsx"), "tsx"),
    **dict.fromkeys(("js", "jsx", "javascript", "module", "text/jsx", "text/babel"), "javascript"),
    **dict.fromkeys(("text/javascript", "application/javascript"), "javascript"),
    **dict.fromkeys(("text/ecmascript", "application/ecmascript"), "javascript"),
    **dict.fromkeys(("py", "mpy", "text/python", "text/x-python"), "python"),
}
STYLES = dict.fromkeys(
    ("css", "text/css", "postcss", "text/postcss", "scss", "text/scss", "less", "text/less"), "css"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """``text[start:end]`` is what stands between a start and an end tag.

    Attributes:
        language: None for what is no code in a language of ours, e.g. JSON.
        closed: False where the text ends before the region does.
    """

    language: str | None
    start: int
    end: int
    closed: bool


def regions(text: str, kind: Kind) -> Iterator[Region]:
    """All scripts and styles of ``text``, in their order, in linear time."""
    at = 0
    if kind == "astro" and (front := _front_matter(text)) is not None:
        yield front
        at = front.end
    while found := OPENING.search(text, at):
        if found[1] is None:
            # "<!-->" is a comment too.
            end = text.find("-->" if found[0] == "<!--" else "?>", found.start() + 2)
            if end < 0:
                return
            at = end
            continue
        name = found[1].lower()
        tag = _start_tag(text, found.end())
        if tag is None:
            return
        at, attributes = tag
        if attributes is None:
            continue
        closing = CLOSING[name].search(text, at)
        end = closing.start() if closing else len(text)
        yield Region(
            language=_language(name, attributes, kind),
            start=at,
            end=end,
            closed=closing is not None,
        )
        at = end


def parts(text: str, kind: Kind) -> list[tuple[str, str]]:
    """Language and text of each region that holds code, see ``without_blank_ends``."""
    found = [
        (region.language, without_blank_ends(text[region.start : region.end]))
        for region in regions(text, kind)
        if region.closed
    ]
    return [(language, part) for language, part in found if language is not None and part]


def without_blank_ends(text: str) -> str:
    """Without blank lines at the start and any white space at the end; else as it stands."""
    return without_blank_start(text.rstrip())


def without_blank_start(text: str) -> str:
    """Without blank lines at the start. An indentation is kept."""
    found = BLANK_START.match(text)
    return text[found.end() :] if found else text


def _front_matter(text: str) -> Region | None:
    """What Astro runs on the server, between two lines of dashes."""
    start = FRONT_MATTER.match(text)
    end = start and FRONT_MATTER_END.search(text, start.end())
    if not start or not end:
        return None
    return Region(language="typescript", start=start.end(), end=end.start(), closed=True)


def _start_tag(text: str, at: int) -> tuple[int, dict[str, str] | None] | None:
    """Where a start tag ends, and its attributes, which are None where it also ends the element.

    Returns:
        None where the text ends before the tag does.
    """
    attributes: dict[str, str] = {}
    while found := ATTRIBUTE.match(text, at):
        at = found.end()
        if found["end"]:
            return at, None if "/" in found[0] else attributes
        if found["name"]:
            value = found["double"] or found["single"] or found["bare"] or ""
            attributes.setdefault(found["name"].lower(), value)
    return None


def _language(name: str, attributes: dict[str, str], kind: Kind) -> str | None:
    said = attributes.get("lang") or attributes.get("type") or ""
    said = said.partition(";")[0].strip().lower()
    if name == "style":
        return STYLES.get(said) if said else "css"
    if said:
        return SCRIPTS.get(said)
    return "typescript" if kind == "astro" else "javascript"
