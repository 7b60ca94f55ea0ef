"""What a text defines (functions, classes, methods, types, constants) and which files it imports.

Definitions are found along the syntax tree. The patterns serve all grammars of ``language.py``;
each language takes those that its grammar knows, so one that knows none simply defines nothing.
"""

import functools
import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flex_assist.language import Language, parser

if TYPE_CHECKING:
    from tree_sitter import Node, Query

# Hostile nesting costs some grammars time that grows with the square of the length.
MAX_PARSED_BYTES = 100_000
# Nodes that define what their field ``name`` says.
_NAMED = (
    "abstract_class_declaration", "class", "class_declaration", "class_definition", "const_item",
    "delegate_declaration", "enum_declaration", "enum_item", "function_declaration",
    "function_definition", "function_item", "function_signature", "function_signature_item",
    "generator_function_declaration", "interface_declaration", "macro_definition", "method",
    "method_declaration", "method_definition", "method_elem", "module", "object_declaration",
    "preproc_def", "preproc_function_def", "record_declaration", "singleton_method", "static_item",
    "struct_declaration", "struct_item", "trait_declaration", "trait_item",
    "type_alias_declaration", "type_item", "union_item",
)  # fmt: skip
_FUNCTION = "(function_declarator declarator: (identifier) @name)"
_MEMBER = "(function_declarator declarator: (field_identifier) @name)"
_QUALIFIED = "(function_declarator declarator: (qualified_identifier name: (identifier) @name))"
_DECLARING = (
    ("declaration", (_FUNCTION,)),
    ("field_declaration", (_MEMBER,)),
    ("function_definition", (_FUNCTION, _MEMBER, _QUALIFIED)),
)
_VARIABLE = "(lexical_declaration (variable_declarator name: (identifier) @name))"
_CONSTANT = '(#match? @name "^[A-Z][A-Z0-9_]+$")'
_PATTERNS = (
    *(f"({node} name: (_) @name) @definition" for node in _NAMED),
    # C and C++: the name is inside of the declarator; without a body it is a use.
    *(
        f"({node} name: (_) @name body: (_)) @definition"
        for node in ("class_specifier", "enum_specifier", "struct_specifier", "union_specifier")
    ),
    *(
        f"({node} declarator: {declarator}) @definition"
        for node, names in _DECLARING
        for one in names
        for declarator in (
            one, f"(pointer_declarator declarator: {one})", f"(reference_declarator {one})"
        )
    ),
    "(type_definition declarator: (type_identifier) @name) @definition",
    # Go.
    "(type_declaration (type_spec name: (_) @name)) @definition",
    "(type_declaration (type_alias name: (_) @name)) @definition",
    "(source_file (const_declaration (const_spec name: (_) @name)) @definition)",
    "(source_file (var_declaration (var_spec name: (_) @name)) @definition)",
    # Top-level variables where they are constants or functions by custom.
    f"(program {_VARIABLE} @definition)",
    f"(program (export_statement {_VARIABLE}) @definition)",
    "(module (expression_statement (assignment left: (identifier) @name)) @definition)",
    "(module (assignment left: (identifier) @name) @definition)",
    "(source_file (property_declaration (variable_declaration (identifier) @name)) @definition)",
    "(program (variable_assignment name: (variable_name) @name) @definition)",
    "(program (declaration_command (variable_assignment name: (variable_name) @name)) @definition)",
    "(assignment left: (constant) @name) @definition",
    "(const_declaration (const_element (name) @name)) @definition",
    f"((field_declaration (variable_declarator name: (identifier) @name)) @definition {_CONSTANT})",
)  # fmt: skip
# A line that imports, in any of the languages.
_IMPORT = re.compile(
    r"^[ \t]*(?:(?:pub(?:\([a-z]+\))? +)?(?:import|from|use|using|require(?:_once|_relative)?"
    r"|include(?:_once)?|load|source|\.)\b|#[ \t]*include\b|export\b.*\bfrom\b|\}[ \t]*from\b"
    r"|(?:const|let|var)\b.*\brequire\(|(?:[\w.]+[ \t]+)?\").*$",
    re.MULTILINE,
)
_QUOTED = re.compile(r"[\"'<]([^\"'<>\s]+)[\"'>]")
_DOTTED = re.compile(r"(\.*)([A-Za-z_]\w*(?:(?:\.|::|\\)[A-Za-z_]\w*)*)")
_WORDS = {
    "as", "crate", "export", "from", "import", "include", "pub", "require", "self", "static",
    "super", "type", "use", "using",
}  # fmt: skip
_SEPARATOR = re.compile(r"\.|::|\\|/")
# What stands for the folder that it lies in.
_INDEXES = frozenset({"__init__", "index", "mod", "lib", "main"})
MAX_IMPORT_CHARACTERS = 8000
MAX_SUFFIX_PARTS = 4
# More files than this under one name: no import means them.
MAX_FILES_OF_A_NAME = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """A name, and the lines that define it, from 0, both included."""

    name: str
    first_line: int
    last_line: int


def definitions(text: str, language: Language) -> list[Definition]:
    """All of a text, by place."""
    data = text.encode("utf-8", "surrogatepass")
    found = {
        Definition(
            name=data[name.start_byte : name.end_byte].decode("utf-8", "replace"),
            first_line=definition.start_point.row,
            last_line=definition.end_point.row,
        )
        for name, definition in definition_nodes(data, language)
    }
    return sorted(found, key=lambda one: (one.first_line, one.last_line, one.name))


def definition_nodes(data: bytes, language: Language) -> "list[tuple[Node, Node]]":
    """The node of each name, and that of all that defines it."""
    query = _query(language)
    if query is None or len(data) > MAX_PARSED_BYTES:
        return []
    from tree_sitter import QueryCursor

    matches = QueryCursor(query).matches(parser(language).parse(data).root_node)
    return [(name, found["definition"][0]) for _, found in matches for name in found["name"]]


@functools.cache
def _query(language: Language) -> "Query | None":
    from tree_sitter import Query, QueryError

    grammar = parser(language).language
    assert grammar is not None
    known = []
    for pattern in _PATTERNS:
        try:
            Query(grammar, pattern)
        except QueryError:
            # The grammar has no such node, or not in such a place.
            continue
        known.append(pattern)
    return Query(grammar, "\n".join(known)) if known else None


class ImportTable:
    """Finds the files that a text imports among those of a repository."""

    def __init__(self, files: Iterable[tuple[str, str]]) -> None:
        self._files: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        for path, language in set(files):
            parts = posixpath.splitext(path)[0].split("/")
            names = [parts, parts[:-1]] if parts[-1] in _INDEXES else [parts]
            if path.endswith(".go"):
                # A package of Go is a folder.
                names = [parts[:-1]]
            for name in names:
                for size in range(1, min(len(name), MAX_SUFFIX_PARTS) + 1):
                    self._files[language, "/".join(name[-size:])].add(path)

    def imported(self, text: str, path: str | None, language: str) -> frozenset[str]:
        """Files of ``language`` that the import lines at the beginning of ``text`` mean.

        Args:
            path: Of the text itself.
        """
        found: set[str] = set()
        for line in _IMPORT.findall(text[:MAX_IMPORT_CHARACTERS]):
            quoted = _QUOTED.findall(line)
            if quoted:
                for target in quoted:
                    found |= self._named(_quoted_parts(target, path), language)
            else:
                for dots, target in _DOTTED.findall(line):
                    parts = _dotted_parts(dots, target, path)
                    # What is imported may be something in the file rather than the file.
                    found |= self._named(parts, language) or self._named(parts[:-1], language)
        return frozenset(found - {path})

    def _named(self, parts: list[str], language: str) -> set[str]:
        for size in range(min(len(parts), MAX_SUFFIX_PARTS), 0, -1):
            files = self._files.get((language, "/".join(parts[-size:])), set())
            if files and len(files) <= MAX_FILES_OF_A_NAME and (size > 1 or len(parts) < 3):
                return files
        return set()


def _quoted_parts(target: str, path: str | None) -> list[str]:
    stem = posixpath.splitext(target)[0]
    if target.startswith(".") and path is not None:
        stem = posixpath.normpath(posixpath.join(posixpath.dirname(path), stem))
    return [part for part in stem.split("/") if part not in ("", ".", "..", "@", "~")]


def _dotted_parts(dots: str, target: str, path: str | None) -> list[str]:
    parts = [part for part in _SEPARATOR.split(target) if part not in _WORDS]
    if dots and path is not None:
        return [*path.split("/")[: -len(dots)], *parts]
    return parts
