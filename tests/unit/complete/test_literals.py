"""Strings and comments of all languages, whole or just begun."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flex_assist.complete.literals import masked, opened_at_end
from flex_assist.language import BY_NAME

PIECES = (
    "a(", ")", "{", "}", "\n", "\n", '"', "'", '"""', "'''", "`", "#", "//", "/*", "*/", "--", "\\",
    "<<EOF\n", "EOF\n", "r#\"", "\"#", "'x'", "'a ", "$#", "= /[(]/", " ",
)  # fmt: skip
texts = st.lists(st.sampled_from(PIECES), max_size=16).map("".join)


@pytest.mark.parametrize(
    ("language", "text", "code"),
    [
        ("python", 'x = "(" + f(', "x = ___ + f("),
        ("python", "# it's (\n(", "________\n("),
        ("python", 'x = """(\n(""" (', "x = _________ ("),
        ("python", "x = 'a\ny = (", "x = __\ny = ("),
        ("rust", "fn f<'a>(x: &'a str) { '(' }", "fn f<'a>(x: &'a str) { ___ }"),
        ("rust", 'r#"("("# (', "________ ("),
        ("cpp", "int x = 1'000; f('(');", "int x = 1'000; f(___);"),
        ("javascript", "s.replace(/[(]/g, `(\n(`)", "s.replace(____/g, _____)"),
        ("javascript", "a / b / (c)", "a / b / (c)"),
        ("shell", "n=$# (", "n=$# ("),
        ("shell", "cat <<'EOF'\n(\nEOF\n(", "cat _____________\n("),
        ("php", "#[A(1)]\n# (", "#[A(1)]\n___"),
        ("sql", "SELECT 'it''s (' -- (\n(", "SELECT _________ ____\n("),
        ("css", "a { /* } */ }", "a { _______ }"),
        ("go", "s := `(\n(` + '('", "s := _____ + ___"),
        ("java", 'String s = """\n(\n""";', "String s = _________;"),
        ("ruby", "x = <<~SQL\n(\nSQL\n(", "x = ____________\n("),
        (None, "print('(')", "print(___)"),
    ],
)
def test_what_is_code(language: str | None, text: str, code: str) -> None:
    assert len(code) == len(text)
    assert [(a, b) for a, b in zip(masked(text, language), code, strict=True)
            if (a in "(){}[]\n") != (b in "(){}[]\n")] == []  # fmt: skip


@pytest.mark.parametrize(
    ("language", "text", "closing"),
    [
        ("python", 'x = "a', '"'), ("python", 'x = """a\nb', '"""'), ("python", "x = 1  # a", ""),
        ("python", 'x = "a"', None), ("python", 'x = """a"""', None), ("python", "# a\n", None),
        ("c", "/* a\nb", "*/"), ("c", "/* a */", None), ("c", "x = '", None),
        ("javascript", "x = `a ${b", "`"), ("shell", "cat <<EOF\na", "EOF"),
        ("shell", "cat <<EOF\na\nEOF\n", None), ("sql", "SELECT 'a", "'"), ("go", "`a\n", "`"),
        ("rust", 'r#"a', '"#'), (None, "say 'a", "'"), ("kotlin", '"""a\n', '"""'),
    ],
)  # fmt: skip
def test_what_the_cursor_is_in(language: str | None, text: str, closing: str | None) -> None:
    found = opened_at_end(text, language)
    assert (found.closing if found else None) == closing


@given(texts, texts, st.sampled_from([None, *BY_NAME]))
@example(text="`", more="\\", language="typescript")
def test_more_text_does_not_change_the_lines_before(
    text: str, more: str, language: str | None
) -> None:
    whole_lines = text + "\n"
    code = masked(whole_lines, language)
    assert len(code) == len(whole_lines)
    later = masked(whole_lines + more, language)[: len(code)]
    brackets = [letter if letter in "(){}\n" else "_" for letter in code]
    assert [letter if letter in "(){}\n" else "_" for letter in later] == brackets


def test_long_texts_take_no_time() -> None:
    for name in BY_NAME:
        for letter in ("'", '"', "`", "/", "#", "<", "\\", "(", "<<A\n", "/*", "'''", "-"):
            masked(letter * 20_000, name)
            opened_at_end(letter * 20_000, name)
