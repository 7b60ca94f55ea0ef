"""The cursor's language, and the text that the model is shown of the document."""

import pytest

from flex_assist.complete.region import Region, at_cursor, first_language

VUE = '<template>\n  <p>{{ n }}</p>\n</template>\n\n<script lang="ts">\nconst n = 1;\n</script>\n'


def cut(place: str, text: str = VUE) -> tuple[str, str]:
    at = text.index(place)
    return text[:at], text[at:]


def name(region: Region) -> str | None:
    return region.language.name if region.language else None


def test_a_script_alone_is_shown() -> None:
    region = at_cursor(*cut("1;"), path="App.vue", language_id="vue")
    assert (name(region), region.before, region.after) == ("typescript", "const n = ", "1;\n")


def test_markup_is_in_no_language() -> None:
    before, after = cut("}}")
    region = at_cursor(before, after, path="App.vue", language_id="vue")
    assert region == Region(language=None, before=before, after=after)


@pytest.mark.parametrize(
    ("path", "language_id", "language"),
    [
        ("App.vue", None, "typescript"), ("App.vue", "plaintext", "typescript"),
        (None, "vue", "typescript"), ("a.html", "htmldjango", "typescript"),
        ("a.txt", "html", "typescript"), ("App.svelte", "svelte", "typescript"),
        # The editor says that the whole document is in one language.
        ("App.vue", "javascript", "javascript"), ("a.html", "php", "php"),
        ("a.py", None, "python"), ("a.txt", None, None), (None, None, None),
        ("n.ipynb", None, None), ("n.ipynb", "json", None),
    ],
)  # fmt: skip
def test_who_decides(path: str | None, language_id: str | None, language: str | None) -> None:
    region = at_cursor(*cut("1;"), path=path, language_id=language_id)
    assert name(region) == language
    whole = cut("1;") if language != "typescript" else ("const n = ", "1;\n")
    assert (region.before, region.after) == whole


def test_a_cell_of_a_notebook_is_a_document() -> None:
    region = at_cursor("import os\nos.", "\n", path="n.ipynb", language_id="python")
    assert (name(region), region.before, region.after) == ("python", "import os\nos.", "\n")
    shell = at_cursor("%%bash\nset -e\nls ", "", path="n.ipynb", language_id="python")
    assert (name(shell), shell.before) == ("shell", "set -e\nls ")
    # In the line that names the language.
    magic = at_cursor("%%ba", "sh\nls", path="n.ipynb", language_id="python")
    assert (name(magic), magic.before, magic.after) == ("python", "%%ba", "sh\nls")
    unknown = at_cursor("%%sql\nselect ", "", path="n.ipynb", language_id="python")
    assert name(unknown) is None


@pytest.mark.parametrize(
    ("text", "path", "language_id", "language"),
    [
        (VUE, "App.vue", "vue", "typescript"), ("<p/>", "App.vue", "vue", None),
        ("<style>", "a.html", None, "css"), ("x", "a.py", None, "python"),
        ("x", "n.ipynb", "python", "python"), ("{}", "n.ipynb", "json", None),
    ],
)  # fmt: skip
def test_the_first_language(
    text: str, path: str, language_id: str | None, language: str | None
) -> None:
    found = first_language(text, path=path, language_id=language_id)
    assert (found.name if found else None) == language
