"""Which licence a file says it is under, and whether that keeps it out.

Read from the file's first lines: an SPDX tag, or the words by which the usual licences name
themselves. Ids are SPDX's where the version is told, else the family's name (``GPL``).
"""

import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from flex_assist.repository.documents import Objection
from flex_assist.repository.reading import TreeReader

HEADER_LINES, HEADER_CHARACTERS = 60, 6000
MAX_LICENCE_BYTES = 128 * 1024
LICENCE_NAMES = (
    "LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "LICENCE.txt", "LICENCE.md", "COPYING",
    "COPYING.txt", "COPYING.LESSER", "UNLICENSE",
)  # fmt: skip

_TAG = re.compile(r"SPDX-License-Identifier:[ \t]*([^\n]{1,200})")
_EXPRESSION = re.compile(r"[A-Za-z0-9.+-]{2,60}|[()]")
_KNOWN = re.compile(
    r"[()]|AND|OR|WITH|0BSD|ISC|NCSA|WTFPL|Unlicense|LicenseRef-[A-Za-z]{1,24}"
    r"|(?:MIT|Apache|BSD|[AL]?GPL|MPL|EPL|EUPL|CC|CC0|CDDL|SSPL|BUSL|BSL|PSF|Python|Zlib|OFL"
    r"|Artistic|OpenSSL|LLVM|GCC|Classpath|Elastic|PolyForm|MS|AFL|CPL|IPL|OSL|PostgreSQL|Ruby|W3C|X11|curl)"
    r"(?:[-.+][A-Za-z0-9.]{1,12}){0,4}\+?"
)
_FAMILIES = (
    ("AGPL", r"gnu affero general public licen[sc]e|\bagplv?\d|licen[sc]e: agpl|under the agpl\b"),
    (
        "LGPL",
        r"gnu (?:lesser|library) general public licen[sc]e|\blgplv?\d|licen[sc]e: lgpl"
        r"|under the lgpl",
    ),
    ("GPL", r"gnu general public licen[sc]e|\bgplv?\d|licen[sc]e: gpl|under the gpl"),
    ("Apache-2.0", r"apache licen[sc]e,? version 2"),
    ("MPL-2.0", r"mozilla public licen[sc]e"),
    ("EPL", r"eclipse public licen[sc]e"),
    ("SSPL-1.0", r"server side public licen[sc]e"),
    ("BUSL-1.1", r"business source licen[sc]e"),
    ("CC-BY-NC", r"creative commons[^\n]{0,40}non-?commercial|\bcc[ -]by[ -]nc"),
    ("BSL-1.0", r"boost software licen[sc]e"),
    ("Unlicense", r"free and unencumbered software released into the public domain"),
    ("ISC", r"permission to use, copy, modify, and(?:/or)? distribute this software"),
    ("MIT", r"permission is hereby granted, free of charge|\bmit licen[sc]e"),
    ("BSD", r"redistribution and use in source and binary forms|\bbsd[ -]style licen[sc]e"),
    ("Proprietary", r"\bproprietary (?:and|&|software|information)|\bconfidential and proprietary"),
)
_WORDS = re.compile("|".join(f"(?P<f{at}>{words})" for at, (_, words) in enumerate(_FAMILIES)))
# Without one of these no family is named; most files have none, and are quickly done with.
_HINT = re.compile(
    r"licen|under the |gplv|commons|unencumbered|permission|redistribution|proprietary"
    r"|\bcc[\s/*#;%-]+by"
)
# Between the words of a licence's name there may be a line break and a comment's mark.
_FILLING = re.compile(r"[\s/*#;%-]+")


def of_text(text: str) -> str | None:
    """The licence that a file's first lines name, as an SPDX expression; None if they name none."""
    head = "\n".join(text[:HEADER_CHARACTERS].split("\n")[:HEADER_LINES])
    tags = [found for tag in _TAG.finditer(head) if (found := _expression(tag[1]))]
    if tags:
        # All of them hold.
        return tags[0] if len(tags) == 1 else " AND ".join(f"({one})" for one in tags)
    return _by_words(head)


def _expression(text: str) -> str | None:
    """What of a tag is an SPDX expression: nothing that is no licence's name is passed on."""
    parts = list(itertools.takewhile(_KNOWN.fullmatch, _EXPRESSION.findall(text)))
    return " ".join(parts).replace("( ", "(").replace(" )", ")") or None


def of_repository(root: Path) -> frozenset[str]:
    """The licences that the files in the root name as the repository's own."""
    reader, found = TreeReader(root), set()
    for name in LICENCE_NAMES:
        named = _of_file(reader, name)
        found |= {named} if named else set()
    return frozenset(found)


def of_folders(root: Path, paths: Iterable[str]) -> dict[str, str]:
    """The licences of folders below the root that have a licence file of their own.

    Args:
        paths: Of the repository's files.
    """
    reader, found = TreeReader(root), dict[str, str]()
    for path in paths:
        folder, slash, name = path.rpartition("/")
        if slash and name in LICENCE_NAMES and folder not in found:
            named = _of_file(reader, path)
            if named:
                found[folder] = named
    return found


def around(path: str, folders: Mapping[str, str]) -> str | None:
    """The licence of the nearest folder around a file that has one."""
    folder = path
    while folders and "/" in folder:
        folder = folder.rpartition("/")[0]
        if folder in folders:
            return folders[folder]
    return None


def own_licences(root: Path, named: Sequence[str | None]) -> frozenset[str]:
    """The repository's own licences: those of its root, and one that most of its files name.

    Args:
        named: What each file says.
    """
    counts = Counter(one for one in named if one)
    most = {one for one, count in counts.items() if 2 * count > len(named)}
    return of_repository(root) | most


def denied(expression: str | None, rules: Iterable[str], own: Iterable[str]) -> Objection | None:
    """Why a file with this licence is left out, or None.

    Of alternatives (``OR``) one that is allowed is enough; of licences that hold together
    (``AND``, ``WITH``) none may be denied.

    Args:
        rules: Denied licences, each with all that begin like it: ``GPL`` denies ``GPL-3.0-only``.
        own: The repository's own licences, which are never denied.
    """
    if expression is None:
        return None
    families = [_family(one) for one in own]

    def allowed(licence: str) -> bool:
        return not _matches(licence, rules) or _family(licence) in families

    tokens = re.findall(r"[()]|[^\s()]+", expression)
    return None if _any(tokens, allowed) else Objection(rule="licence", value=expression)


def _any(tokens: list[str], allowed: Callable[[str], bool]) -> bool:
    """An SPDX expression up to its end or a closing bracket; tokens are taken off the front."""
    found = _all(tokens, allowed)
    while tokens and tokens[0] == "OR":
        tokens.pop(0)
        found = _all(tokens, allowed) or found
    return found


def _all(tokens: list[str], allowed: Callable[[str], bool]) -> bool:
    found = _one(tokens, allowed)
    while tokens and tokens[0] not in ("OR", ")"):
        if tokens[0] in ("AND", "WITH"):
            tokens.pop(0)
        found = _one(tokens, allowed) and found
    return found


def _one(tokens: list[str], allowed: Callable[[str], bool]) -> bool:
    if not tokens:
        return True
    first = tokens.pop(0)
    if first != "(":
        return allowed(first)
    found = _any(tokens, allowed)
    if tokens:
        tokens.pop(0)
    return found


def _of_file(reader: TreeReader, path: str) -> str | None:
    data = reader.read(path, MAX_LICENCE_BYTES)
    if not isinstance(data, bytes):
        return None
    # A licence's own text begins with its name; others that it mentions come later.
    return _by_words(data.decode("utf-8", "replace")[:1500])


def _by_words(text: str) -> str | None:
    lowered = text.lower()
    if not _HINT.search(lowered):
        return None
    plain = _FILLING.sub(" ", lowered)
    found = _WORDS.search(plain)
    if found is None or found.lastgroup is None:
        return None
    return _FAMILIES[int(found.lastgroup[1:])][0]


def _matches(licence: str, rules: Iterable[str]) -> bool:
    return any(licence.lower().startswith(rule.lower()) for rule in rules)


def _family(licence: str) -> str:
    return licence.lower().partition("-")[0]
