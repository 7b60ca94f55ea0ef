"""Programming languages: one record each.

Source of the identifiers: the language ids of the Language Server Protocol, section
"Text documents", and what editors send beside them.
"""

import functools
import importlib
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tree_sitter import Parser


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """What the product must know of a language.

    Attributes:
        name: Our name, also the name of its adapter.
        label: For people.
        lsp_ids: ``languageId`` values that mean it; the first is the usual one.
        extensions: File name endings, with the dot, lower case.
        line_comment: What starts a comment that ends with the line, or with ``comment_end``.
        grammar: Module and function that give its tree-sitter grammar.
        family: Of languages that resemble each other.
        file_names: Whole file names that mean it.
        interpreters: Programs named in a ``#!`` line that mean it.
        comment_end: What ends a comment where the end of the line does not.
    """

    name: str
    label: str
    lsp_ids: tuple[str, ...]
    extensions: tuple[str, ...]
    line_comment: str
    grammar: tuple[str, str]
    family: str
    file_names: tuple[str, ...] = field(default=())
    interpreters: tuple[str, ...] = field(default=())
    comment_end: str = ""


LANGUAGES: tuple[Language, ...] = (
    Language(
        name="python",
        label="Python",
        lsp_ids=("python",),
        extensions=(".py", ".pyi"),
        line_comment="#",
        grammar=("tree_sitter_python", "language"),
        family="script",
        interpreters=("python", "python3"),
    ),
    Language(
        name="typescript",
        label="TypeScript",
        lsp_ids=("typescript",),
        extensions=(".ts", ".mts", ".cts"),
        line_comment="//",
        grammar=("tree_sitter_typescript", "language_typescript"),
        family="ecmascript",
    ),
    Language(
        name="tsx",
        label="TSX",
        lsp_ids=("typescriptreact",),
        extensions=(".tsx",),
        line_comment="//",
        grammar=("tree_sitter_typescript", "language_tsx"),
        family="ecmascript",
    ),
    Language(
        name="javascript",
        label="JavaScript",
        lsp_ids=("javascript", "javascriptreact"),
        extensions=(".js", ".mjs", ".cjs", ".jsx"),
        line_comment="//",
        grammar=("tree_sitter_javascript", "language"),
        family="ecmascript",
        interpreters=("node", "deno", "bun"),
    ),
    Language(
        name="java",
        label="Java",
        lsp_ids=("java",),
        extensions=(".java",),
        line_comment="//",
        grammar=("tree_sitter_java", "language"),
        family="jvm",
    ),
    Language(
        name="kotlin",
        label="Kotlin",
        lsp_ids=("kotlin",),
        extensions=(".kt", ".kts"),
        line_comment="//",
        grammar=("tree_sitter_kotlin", "language"),
        family="jvm",
    ),
    Language(
        name="go",
        label="Go",
        lsp_ids=("go",),
        extensions=(".go",),
        line_comment="//",
        grammar=("tree_sitter_go", "language"),
        family="system",
    ),
    Language(
        name="rust",
        label="Rust",
        lsp_ids=("rust",),
        extensions=(".rs",),
        line_comment="//",
        grammar=("tree_sitter_rust", "language"),
        family="system",
    ),
    Language(
        name="c",
        label="C",
        lsp_ids=("c",),
        extensions=(".c", ".h"),
        line_comment="//",
        grammar=("tree_sitter_c", "language"),
        family="system",
    ),
    Language(
        name="cpp",
        label="C++",
        lsp_ids=("cpp", "cuda-cpp"),
        extensions=(".cc", ".cpp", ".cxx", ".hh", ".hpp", ".hxx", ".cu", ".cuh"),
        line_comment="//",
        grammar=("tree_sitter_cpp", "language"),
        family="system",
    ),
    Language(
        name="csharp",
        label="C#",
        lsp_ids=("csharp",),
        extensions=(".cs",),
        line_comment="//",
        grammar=("tree_sitter_c_sharp", "language"),
        family="jvm",
    ),
    Language(
        name="ruby",
        label="Ruby",
        lsp_ids=("ruby",),
        extensions=(".rb", ".rake"),
        line_comment="#",
        grammar=("tree_sitter_ruby", "language"),
        family="script",
        file_names=("Rakefile", "Gemfile"),
        interpreters=("ruby",),
    ),
    Language(
        name="php",
        label="PHP",
        lsp_ids=("php",),
        extensions=(".php",),
        line_comment="//",
        grammar=("tree_sitter_php", "language_php"),
        family="script",
        interpreters=("php",),
    ),
    Language(
        name="shell",
        label="Shell",
        lsp_ids=("shellscript", "sh", "bash"),
        extensions=(".sh", ".bash"),
        line_comment="#",
        grammar=("tree_sitter_bash", "language"),
        family="script",
        interpreters=("sh", "bash", "dash", "zsh"),
    ),
    # SCSS and Less too: the grammar skips what it does not know of them.
    Language(
        name="css",
        label="CSS",
        lsp_ids=("css", "scss", "less", "postcss"),
        extensions=(".css", ".scss", ".less"),
        line_comment="/*",
        grammar=("tree_sitter_css", "language"),
        family="web",
        comment_end="*/",
    ),
    Language(
        name="sql",
        label="SQL",
        lsp_ids=("sql", "mysql", "pgsql", "plsql"),
        extensions=(".sql",),
        line_comment="--",
        grammar=("tree_sitter_sql", "language"),
        family="query",
    ),
)

BY_NAME = {language.name: language for language in LANGUAGES}
BY_LSP_ID = {lsp_id: language for language in LANGUAGES for lsp_id in language.lsp_ids}
_BY_EXTENSION = {ext: language for language in LANGUAGES for ext in language.extensions}
_BY_FILE_NAME = {name: language for language in LANGUAGES for name in language.file_names}
# What people also call them.
_WORDS = {"c++": "cpp", "c#": "csharp", "golang": "go", "console": "shell", "node": "javascript"}
_BY_INTERPRETER = {name: language for language in LANGUAGES for name in language.interpreters}


def by_path(path: PurePath | str) -> Language | None:
    """The language that a file's name says, or None."""
    pure = PurePath(path)
    return _BY_FILE_NAME.get(pure.name) or _BY_EXTENSION.get(pure.suffix.lower())


def by_shebang(first_line: str) -> Language | None:
    """The language that a ``#!`` line says, or None."""
    if not first_line.startswith("#!"):
        return None
    words = first_line[2:].split()
    names = [PurePath(word).name for word in words if not word.startswith("-")]
    if names and names[0] == "env":
        names = names[1:]
    if not names:
        return None
    # "python3.11" and "ruby2.7" as well.
    return _BY_INTERPRETER.get(names[0]) or _BY_INTERPRETER.get(names[0].rstrip("0123456789."))


def by_word(word: str) -> Language | None:
    """The language that people mean by a word, e.g. behind the marks of fenced code."""
    lower = word.lower()
    known = BY_NAME.get(lower) or BY_LSP_ID.get(lower) or _BY_EXTENSION.get(f".{lower}")
    return known or BY_NAME.get(_WORDS.get(lower, "")) or _BY_INTERPRETER.get(lower)


def resolve(lsp_id: str | None, path: PurePath | str | None) -> Language | None:
    """The language of an open document: by its ``languageId``, else by its file name."""
    if lsp_id and lsp_id in BY_LSP_ID:
        return BY_LSP_ID[lsp_id]
    return by_path(path) if path is not None else None


@functools.cache
def parser(language: Language) -> "Parser":
    """A tree-sitter parser for ``language``. One a process: parsers keep no state between texts."""
    import tree_sitter

    module, function = language.grammar
    grammar = tree_sitter.Language(getattr(importlib.import_module(module), function)())
    return tree_sitter.Parser(grammar)
