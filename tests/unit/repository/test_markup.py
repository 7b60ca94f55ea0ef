"""Scripts and styles in markup: found as browsers and compilers find them."""

import pytest

from flex_assist.repository.markup import Kind, parts, regions

VUE = """\
<script lang="ts">
export default { name: "Counter" };
</script>

<script setup lang="ts" generic="T extends Record<string, number>">
import { ref } from "vue";

const n = ref(0);
if (n.value < 3 && n.value > 1) n.value += 1;
</script>

<template>
  <div v-if="a < b && c > d" @click="() => go(1)">{{ a < b ? "it's" : n }}</div>
</template>

<style scoped lang="scss">
div { color: red; .inner { top: 0 } }
</style>

<i18n lang="json">{"en": {"go": "Go"}}</i18n>
"""
SVELTE = """\
<script context="module">
  export const prerender = true;
</script>

<script lang='ts'>
  export let items: string[] = [];
</script>

{#if items.length < 3}
  <p on:click={() => (open = !open)} title={a > b ? "x" : 'don`t'} {...rest}>{@html text}</p>
{/if}

<style>
  p { margin: 0 }
</style>
"""
HTML = """\
<!DOCTYPE html>
<html>
<head>
  <!-- <script>commentedOut()</script> -->
  <script src="app.js"></script>
  <script src="other.js" defer />
  <SCRIPT TYPE="text/javascript; charset=utf-8">upper();</SCRIPT>
  <script type=module>import "./a.js";</script>
  <script type="application/json">{"not": "code"}</script>
  <script type="importmap">{"imports": {}}</script>
  <script type="text/x-template"><b>no</b></script>
  <script type="py">print("hello")</script>
  <style media="print">
    body { color: black }

  </style>
</head>
<body><script>
var s = "<!-- no comment";
</script ><?php echo "<script>"; ?><scripty>no()</scripty><stylesheet>no</stylesheet>
<script>last()</script>
"""
ASTRO = """\
---
import Layout from "../layouts/Layout.astro";
const wide = 1 < 2;
---
<Layout>{wide && <p>wide</p>}</Layout>
<script>document.title = "x" as string;</script>
"""


def test_a_vue_file() -> None:
    assert parts(VUE, "vue") == [
        ("typescript", 'export default { name: "Counter" };'),
        (
            "typescript",
            'import { ref } from "vue";\n\nconst n = ref(0);\n'
            "if (n.value < 3 && n.value > 1) n.value += 1;",
        ),
        ("css", "div { color: red; .inner { top: 0 } }"),
    ]


def test_a_svelte_file_keeps_its_indentation() -> None:
    assert parts(SVELTE, "svelte") == [
        ("javascript", "  export const prerender = true;"),
        ("typescript", "  export let items: string[] = [];"),
        ("css", "  p { margin: 0 }"),
    ]


def test_an_html_page() -> None:
    assert parts(HTML, "html") == [
        ("javascript", "upper();"),
        ("javascript", 'import "./a.js";'),
        ("python", 'print("hello")'),
        ("css", "    body { color: black }"),
        ("javascript", 'var s = "<!-- no comment";'),
        ("javascript", "last()"),
    ]


def test_an_astro_file() -> None:
    assert parts(ASTRO, "astro") == [
        (
            "typescript",
            'import Layout from "../layouts/Layout.astro";\nconst wide = 1 < 2;',
        ),
        ("typescript", 'document.title = "x" as string;'),
    ]
    # Dashes that nothing closes are text.
    assert parts("---\n<script>x</script>", "astro") == [("typescript", "x")]


@pytest.mark.parametrize(
    ("start", "language"),
    [
        ("<script>", "javascript"), ("<script lang='ts' setup>", "typescript"),
        ("<script lang=tsx>", "tsx"), ("<script lang=\"jsx\">", "javascript"),
        ("<script\n  lang = 'ts'\n>", "typescript"), ("<script a='>' lang=ts>", "typescript"),
        ("<script type='text/babel'>", "javascript"), ("<script lang=coffee>", None),
        ("<script type=text/template>", None), ("<script type='speculationrules'>", None),
        ("<script lang=ts lang=js>", "typescript"), ("<script type='' lang=''>", "javascript"),
        ("<script src=/a/>", "javascript"), ("<script a=\"'\" lang='ts'>", "typescript"),
    ],
)  # fmt: skip
def test_the_language_of_a_script(start: str, language: str | None) -> None:
    (found,) = regions(f"<p>{start}x</script>", "html")
    assert found.language == language
    assert f"<p>{start}x</script>"[found.start : found.end] == "x"


@pytest.mark.parametrize(
    ("attribute", "language"),
    [("", "css"), (" lang=scss", "css"), (" type='text/less'", "css"), (" lang=stylus", None)],
)
def test_the_language_of_a_style(attribute: str, language: str | None) -> None:
    (found,) = regions(f"<style{attribute}>a</style>", "vue")
    assert found.language == language


@pytest.mark.parametrize("kind", ["html", "vue", "svelte", "astro"])
@pytest.mark.parametrize(
    "text",
    ["", "<script", "<script ", "<script a='", "<!-- <script>x</script>", "<?php <script>x", "<",
     "<script/>x", "<script />x</script>", "</script>", "<scriptx>y</scriptx>", "---\n"],
)  # fmt: skip
def test_no_region(text: str, kind: Kind) -> None:
    assert list(regions(text, kind)) == []


def test_a_script_that_is_still_typed_reaches_to_the_end_but_is_no_part() -> None:
    text = "<style>a</style><script>\nconst x = "
    assert [(region.language, region.closed) for region in regions(text, "vue")] == [
        ("css", True), ("javascript", False),
    ]  # fmt: skip
    assert parts(text, "vue") == [("css", "a")]


def test_an_empty_comment_hides_nothing() -> None:
    assert parts("<!--><script>x</script>", "html") == [("javascript", "x")]
