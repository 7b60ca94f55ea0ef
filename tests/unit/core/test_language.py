"""Languages: each is found by what editors and files say of it."""

import pytest

from flex_assist.language import BY_NAME, LANGUAGES, by_path, by_shebang, by_word, parser, resolve


def test_nothing_means_two_languages() -> None:
    for values in ("name", "lsp_ids", "extensions", "file_names", "interpreters"):
        seen: set[str] = set()
        for language in LANGUAGES:
            own = getattr(language, values)
            own = {own} if isinstance(own, str) else set(own)
            assert not seen & own
            seen |= own


@pytest.mark.parametrize("language", LANGUAGES, ids=lambda language: language.name)
def test_the_grammar_reads_a_comment(language: object) -> None:
    known = BY_NAME[language.name]  # type: ignore[attr-defined]
    text = f"{known.line_comment} a comment {known.comment_end}\n"
    if known.name == "php":
        text = f"<?php\n{text}"
    root = parser(known).parse(text.encode()).root_node
    assert not root.has_error
    assert "comment" in str(root)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a.py", "python"), ("A.PY", "python"), ("x/y.d.ts", "typescript"), ("Rakefile", "ruby"),
        ("a.h", "c"), ("a.tsx", "tsx"), ("a.jsx", "javascript"), ("a", None), (".py", None),
        ("a.py.txt", None), ("", None),
        ("a.css", "css"), ("a.SCSS", "css"), ("a.vue", None), ("a.ipynb", None),
        ("schema.SQL", "sql"),
    ],
)  # fmt: skip
def test_by_path(path: str, name: str | None) -> None:
    found = by_path(path)
    assert (found.name if found else None) == name


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("#!/usr/bin/env python3", "python"), ("#!/usr/bin/python -u", "python"),
        ("#! /bin/sh", "shell"), ("#!/usr/bin/env -S node --x", "javascript"), ("#!", None),
        ("#!/usr/bin/env", None), ("# python", None), ("", None), ("#!/opt/perl", None),
        ("#!/usr/bin/python3.11", "python"), ("#!/usr/bin/env ruby2.7\r", "ruby"),
    ],
)  # fmt: skip
def test_by_shebang(line: str, name: str | None) -> None:
    found = by_shebang(line)
    assert (found.name if found else None) == name


def test_the_editor_is_believed_before_the_name() -> None:
    assert resolve("go", "a.py") is BY_NAME["go"]
    assert resolve("plaintext", "a.py") is BY_NAME["python"]
    assert resolve(None, "a.py") is BY_NAME["python"]
    assert resolve("", None) is None
    assert resolve("typescriptreact", None) is BY_NAME["tsx"]


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("Python", "python"), ("py", "python"), ("shellscript", "shell"), ("C++", "cpp"),
        ("c#", "csharp"), ("golang", "go"), ("jsx", "javascript"), ("node", "javascript"),
        ("zsh", "shell"), ("pgsql", "sql"), ("text", None), ("", None), (".py", None),
    ],
)  # fmt: skip
def test_by_word(word: str, name: str | None) -> None:
    found = by_word(word)
    assert (found.name if found else None) == name
