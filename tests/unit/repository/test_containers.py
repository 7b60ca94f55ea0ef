"""Files of several languages: what training takes of them is what serving shows."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flex_assist.language import BY_NAME
from flex_assist.repository import containers
from flex_assist.repository.containers import extract, kind_of, language_at, part_at
from flex_assist.repository.documents import Objection

VUE = """\
<template>
  <div @click="go">{{ n }}</div>
</template>

<script lang="ts">
export default {};
</script>

<script setup lang="ts">

  import { ref } from "vue";
  const n = ref(0);

</script>

<style>
div { color: red }
</style>
<style scoped></style>
"""
SUFFIXES = {"notebook": ".ipynb", "vue": ".vue", "svelte": ".svelte", "astro": ".astro",
            "html": ".html"}  # fmt: skip
pieces = st.sampled_from(
    ["<script>", "</script>", "<style lang=scss>", "</style>", "<script lang='ts'", " a=\"", ">",
     "\n", "\r\n", "  ", "x = 1", "<!--", "-->", "---\n", "<?php", "?>", "{#if a < b}", "é", "'"]
)  # fmt: skip
markups = st.lists(pieces, max_size=30).map("".join) | st.text(max_size=60)
sources = st.lists(
    st.sampled_from(["%%bash\n", "%time x\n", "!ls\n", "x = '''\n", '"', "(", ")", "\\", "\n", "#",
                     "f(x)\n", "%%html\n<script>y</script>\n", "x?\n", "\ud800", "\r", "  "]),
    max_size=12,
).map("".join)  # fmt: skip
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["cells", "metadata", "source", "cell_type", "language"]), inner
        )
    ),
    max_leaves=8,
)
cells = st.fixed_dictionaries(
    {"cell_type": st.just("code") | values, "source": sources | st.lists(sources) | values},
    optional={"metadata": values, "language": values},
)
notebooks = st.builds(
    lambda cells, metadata: json.dumps({"cells": cells, "metadata": metadata}),
    st.lists(cells, max_size=4),
    values,
)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("a/App.vue", "vue"), ("a.svelte", "svelte"), ("a.astro", "astro"), ("A.HTML", "html"),
        ("a.htm", "html"), ("a.xhtml", "html"), ("n.ipynb", "notebook"), ("a.ts", None),
        ("vue", None), (".vue", None), ("a.vue.ts", None),
    ],
)  # fmt: skip
def test_the_kind_is_in_the_name(path: str, kind: str | None) -> None:
    assert kind_of(path) == kind


def test_parts_of_one_language_are_one_text() -> None:
    assert extract("App.vue", VUE) == {
        "typescript": ('export default {};\n\n  import { ref } from "vue";\n  const n = ref(0);\n'),
        "css": "div { color: red }\n",
    }


@pytest.mark.parametrize("path", ["a.html", "a.vue", "a.svelte", "a.astro", "a.py"])
def test_nothing_of_ours(path: str) -> None:
    for text in ("", "<p>text</p>", "<script></script>", "<script type=json>{}</script>"):
        assert extract(path, text) == Objection(rule="not-source")


def test_the_limit_counts_the_code() -> None:
    assert isinstance(extract("App.vue", VUE, limit_bytes=84), dict)
    assert extract("App.vue", VUE, limit_bytes=83) == Objection(rule="too-large", value=84)
    assert containers.max_file_bytes("a.vue", 1000) == 1000
    assert containers.max_file_bytes("a.ipynb", 1000) >= 16 * 1024 * 1024
    assert containers.max_file_bytes("a.ipynb", 1 << 40) == 1 << 40


@pytest.mark.parametrize(
    ("place", "language"),
    [
        ("<template>", None), ("n }}", None), ("export", "typescript"), ("ref(0)", "typescript"),
        ('<script lang="ts">', None), ("color", "css"), ("<style>", None),
        ("</script>", "typescript"),
    ],
)  # fmt: skip
def test_the_language_at_a_place(place: str, language: str | None) -> None:
    assert language_at("App.vue", VUE, VUE.index(place)) == language
    assert language_at("App.ts", VUE, VUE.index(place)) is None
    assert language_at("App.ipynb", '{"cells": []}', 3) is None


def at(place: str, text: str = VUE) -> tuple[str, str]:
    cut = text.index(place)
    return text[:cut], text[cut:]


def test_a_cursor_sees_what_training_saw() -> None:
    part = part_at("vue", *at("ref(0)"))
    assert part is not None
    assert (part.language, part.before, part.after) == (
        "typescript",
        'export default {};\n\n  import { ref } from "vue";\n  const n = ',
        "ref(0);\n",
    )
    first = part_at("vue", *at("default"))
    assert first is not None
    assert first.before == "export "
    assert first.after == 'default {};\n\n  import { ref } from "vue";\n  const n = ref(0);\n'
    assert part_at("vue", *at("n }}")) is None
    # A script that is empty, or just begun.
    begun = part_at("vue", "<template/>\n<script setup>\n\n", "")
    assert begun == containers.Part(language="javascript", before="", after="\n")
    empty = part_at("vue", *at("</style>\n"))
    assert empty is not None
    assert (empty.before, empty.after) == ("div { color: red }\n", "\n")


@given(text=markups, suffix=st.sampled_from([".vue", ".svelte", ".astro", ".html"]))
@example(text="<script><script></script>", suffix=".vue")
def test_every_line_of_a_part_stands_in_the_markup(text: str, suffix: str) -> None:
    found = extract(f"a{suffix}", text)
    if isinstance(found, Objection):
        assert found.rule == "not-source"
        return
    plain = text.replace("\r\n", "\n").replace("\r", "\n")
    for language, part in found.items():
        assert language in BY_NAME
        assert part.strip()
        assert part.endswith("\n")
        assert "\r" not in part
        assert all(line in plain for line in part.split("\n"))


@given(text=notebooks | values.map(json.dumps) | st.text(max_size=40))
@example(text='{"cells": [{"cell_type": "code", "source": "x", "metadata": {"vscode": 1}}]}')
def test_a_notebook_gives_code_or_a_reason(text: str) -> None:
    found = extract("a.ipynb", text)
    if isinstance(found, Objection):
        assert found.rule in ("notebook", "empty", "not-source")
        return
    sources = "\n".join(
        each if isinstance(each, str) else "".join(each)
        for each in (cell["source"] for cell in json.loads(text)["cells"] if "source" in cell)
        if isinstance(each, str) or (isinstance(each, list) and all(type(x) is str for x in each))
    )
    plain = sources.replace("\r\n", "\n").replace("\r", "\n")
    plain = containers.notebooks.NOT_TEXT.sub("�", plain)
    for language, part in found.items():
        assert language in BY_NAME
        part.encode()
        assert part.strip()
        # Lists with other things than text among them are not put together here.
        if all(type(x) is str for x in _lists(text)):
            assert all(line in plain for line in part.split("\n"))


def _lists(text: str) -> list[object]:
    found = (cell.get("source") for cell in json.loads(text)["cells"] if isinstance(cell, dict))
    return [item for each in found if isinstance(each, list) for item in each]


@given(text=markups, kind=st.sampled_from(["vue", "svelte", "astro", "html"]), data=st.data())
def test_before_and_after_are_the_text_of_training(
    text: str, kind: containers.markup.Kind, data: st.DataObject
) -> None:
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    offset = data.draw(st.integers(0, len(text)))
    part = part_at(kind, text[:offset], text[offset:])
    path = f"a{SUFFIXES[kind]}"
    assert (part.language if part else None) == language_at(path, text, offset)
    if part is None:
        return
    found = extract(path, text)
    whole = found.get(part.language, "") if isinstance(found, dict) else ""
    region = next(r for r in containers.markup.regions(text, kind) if r.start <= offset <= r.end)
    own = text[region.start : region.end]
    inside = own.strip() and offset <= region.start + len(own.rstrip())
    if inside and offset >= region.end - len(containers.markup.without_blank_start(own)):
        assert not region.closed or part.before + part.after == whole
    assert text[:offset].endswith(part.before.rpartition("\n")[2])
