"""The report: whole HTML, nothing from outside, the manifest's numbers, no text turned to tags."""

import re
import stat
import time
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from flex_assist.adapters.manifest import REPORT_HTML, Manifest
from flex_trainer import report
from flex_trainer.report import ReportRecord
from flex_trainer.report_examples import Example, Examples, Side

VOID = {"meta", "br", "hr", "img", "input", "link"}
# Drawn shapes are closed in place.
LOADING = {"script", "link", "iframe", "object", "embed", "img", "image", "use", "form", "base"}
REFERRING = {"src", "href", "xlink:href", "action", "srcset", "poster", "background", "style"}
HOSTILE = (
    "</pre></code></li></style><script>alert(\"1\")</script><b onclick='x'>&amp;&#60;{{ 7 * 7 }}"
    "{% raw %}<!-- ]]> \u202eevil\u2066 \x1b[31m \x00 \ud800 \udcff \x85 \u2028 http://a.example/"
)


class Page(HTMLParser):
    """Reads a page strictly: what is not closed as it was opened is an error."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.pieces: list[str] = []
        self.numbers: list[tuple[float, str]] = []
        self.pairs: list[tuple[str, str]] = []
        self._value: str | None = None
        self._inside: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    @property
    def text(self) -> str:
        return " ".join("".join(self.pieces).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._see(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "data":
            self._value = dict(attrs)["value"]
        if tag in ("dt", "dd", "data"):
            self._inside = []

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert "svg" in self.open, f"<{tag}/> outside of a drawing"
        self._see(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag
        inside = "".join(self._inside)
        if tag in ("td", "th", "li", "dt", "dd", "p", "summary"):
            self.pieces.append(" ")
        if tag == "data":
            assert self._value is not None
            self.numbers.append((float(self._value), inside))
        if tag == "dt":
            self.pairs.append((inside, ""))
        if tag == "dd":
            self.pairs[-1] = (self.pairs[-1][0], inside)

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.pieces.append(data)
            self._inside.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data!r}")

    def _see(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), f"<{tag}> has an attribute twice: {names}"
        self.tags.append((tag, tuple(names)))
        self.attributes += [(tag, name, value or "") for name, value in attrs]


def entry(path: str, verdict: str, rule: str, **more: Any) -> dict[str, Any]:
    return {"path": path, "sha256": "0" * 64, "verdict": verdict, "rule": rule, **more}


def data(path: str = "src/a.py", value: object = "vendor") -> list[dict[str, Any]]:
    python = {"language": "python"}
    return [
        entry(path, "train", "kept", **python, licence="MIT", value=None),
        entry("src/b.py", "train", "kept", **python, licence=None, value=None),
        entry("src/t.py", "held-out", "test", **python, licence="MIT", value=None),
        entry("src/u.py", "held-out", "tune", **python, licence="MIT", value=None),
        entry("src/r.py", "held-out", "recent", **python, licence="MIT", value="0123abc"),
        entry("vendor/x.py", "skip", "vendored", **python, value=value),
        entry("min.py", "skip", "minified", **python, value=1200),
        entry("min2.py", "skip", "minified", **python, value=5400),
        entry("gpl.go", "skip", "licence", language="go", licence="GPL-3.0-only",
              value="GPL-3.0-only"),
        entry("k.go", "train", "kept", language="go", licence="MIT", value=None),
    ]  # fmt: skip


DETAILS: dict[str, Any] = {
    "recipe": {"device": "cpu", "optimizer": "sophia", "seed": 3, "rank": 16, "dtype": "bfloat16"},
    "prompt": {"prefix_tokens": 384},
    "packages": {"torch": "2.13.0", "flex-assist": "0.1.0"},
    "plan": {"step_s": 1.75},
    "pool": {"go": {"files": 2, "train_tokens": 345, "why": "2 of the 20 files"}},
    "without_adapter": {},
    "common_steps": 4,
    "common_losses": [2.0, 1.9, 1.8, 1.7],
    "steps": 3,
    "labelled_tokens": 108558,
    "training_s": 352.9,
    "wall_s": 400.5,
    "losses": [1.5, 1.4, 1.3],
    "validation": [[2, 1.45], [3, 1.4]],
    "recoveries": 0,
    "peak_memory_mb": 7740.3,
}
METRICS: dict[str, Any] = {
    "bits_per_byte": {"base": 0.78125, "adapted": 0.51375},
    "ci95": [-0.31415, -0.21875],
    "fim_nats": {"base": 1.3148, "adapted": 1.0318},
    "fim_nats_ci95": [-0.4, 0.01],
    "exact_match": {"base": 0.3, "adapted": 0.2},
    "exact_match_ci95": [-0.2, -0.05],
    "edit_similarity": {"base": 0.4713, "adapted": 0.5155},
    "edit_similarity_ci95": None,
    "windows": 33,
    "window_tokens": 14094,
    "files": 14,
    "spans": 8,
    "arms": {
        "base": {"nats": 1.45, "ci95": [0.1, 0.21]},
        "base + retrieval": {"nats": 1.3148, "ci95": None},
        "adapter + retrieval": {"nats": 1.0318, "ci95": [-0.4, 0.01]},
    },
    "holdouts": {
        "test": {
            "bits_per_byte": {"base": 0.75, "adapted": 0.5},
            "ci95": [-0.3, -0.2],
            "windows": 30,
            "files": 12,
            "spans": 8,
            "fim_nats": {"base": 1.45},
        },
        "recent": {
            "bits_per_byte": None,
            "ci95": None,
            "windows": 0,
            "files": 0,
            "spans": 0,
            "fim_nats": {},
        },
    },
    "drift": {
        "code": {
            "base": 2.3026,
            "adapted": 2.3176,
            "ci95": [-0.012, 0.0373],
            "texts": 16,
            "tokens": 3056,
            "bound": 0.2,
        },
    },
    "active": {
        "version": "20260101T000000Z-0000",
        "active": 0.5312,
        "adapted": 0.5156,
        "ci95": [-0.0375, 0.005],
        "windows": 28,
        "files": 11,
    },
}


def manifest(**changes: Any) -> Manifest:
    values: dict[str, Any] = {
        "name": "python",
        "version": "20261123T104412Z-b82a",
        "languages": ("python", "go"),
        "base_model": "smollm2-135m",
        "base_sha256": "ab" * 32,
        "fim": None,
        "verdict": "promoted",
        "reason": "promoted: better",
        "metrics": METRICS,
        "data": data(),
        "details": DETAILS,
        "artefacts": {"adapter.gguf": "cd" * 32},
        **changes,
    }
    return Manifest(**values)


def example(text: str = "return 1", path: str = "src/t.py") -> Example:
    return Example(
        path=path, line=12, before=text, wanted=text,
        base=Side(text=text, similarity=0.25, exact=False),
        adapted=Side(text=text, similarity=1.0, exact=True),
    )  # fmt: skip


def record(
    text: str = "return 1", path: str = "src/a.py", value: object = "vendor", **changes: Any
) -> ReportRecord:
    examples = Examples(
        shown=(example(text, path), example()), all_counts={"closer": 5, "further": 2, "equal": 1}
    )
    return ReportRecord(
        repository=path,
        manifest=replace(manifest(data=data(path, value), reason=text), **changes),
        examples=examples,
    )


def page(made: ReportRecord) -> Page:
    return Page(report.render(made))


def test_it_is_whole_and_asks_for_nothing_from_outside() -> None:
    text = report.render(record())
    read = Page(text)
    assert text.startswith("<!DOCTYPE html>")
    assert not LOADING & {tag for tag, _ in read.tags}
    assert not [found for found in read.attributes if found[1] in REFERRING or found[1][:2] == "on"]
    assert not re.search(r"https?:|//[a-z]|url\(|@import", text)
    policy = next(value for tag, name, value in read.attributes if "default-src" in value)
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"
    assert {"svg", "title", "desc", "details", "summary"} <= {tag for tag, _ in read.tags}


def test_what_ids_are_referred_to_are_there_once() -> None:
    read = page(record())
    ids = Counter(value for _, name, value in read.attributes if name == "id")
    assert set(ids.values()) == {1}
    named = [v for _, name, v in read.attributes if name == "aria-labelledby"]
    assert set(" ".join(named).split()) <= set(ids)
    # The curve, and an interval for each figure that has one.
    assert len(named) == 4


def rows() -> list[list[float]]:
    """Before, after, difference and interval of each line of the tables."""
    reference = METRICS["arms"]["base + retrieval"]["nats"]
    found = [(reference, one["nats"], one["ci95"]) for one in METRICS["arms"].values()]
    parts = [METRICS["holdouts"]["test"]["bits_per_byte"], METRICS["drift"]["code"]]
    ends = [METRICS["holdouts"]["test"]["ci95"], METRICS["drift"]["code"]["ci95"]]
    found += [(one["base"], one["adapted"], ci95) for one, ci95 in zip(parts, ends, strict=True)]
    rival = METRICS["active"]
    found.append((rival["active"], rival["adapted"], rival["ci95"]))
    return [[before, after, after - before, *(ends or ())] for before, after, ends in found]


def test_every_number_is_the_manifests() -> None:
    read = page(record())
    pairs = [
        METRICS[key] for key in ("bits_per_byte", "fim_nats", "exact_match", "edit_similarity")
    ]
    ends = [METRICS[key] for key in ("ci95", "fim_nats_ci95", "exact_match_ci95")]
    bits = METRICS["bits_per_byte"]
    wanted = Counter(
        [bits["base"], bits["adapted"], (bits["adapted"] - bits["base"]) / bits["base"]]
        + [*METRICS["ci95"], *(number for pair in pairs for number in pair.values())]
        + [number for pair in ends for number in pair]
        # What is not exact has its similarity.
        + [0.25, 0.25]
        + [number for row in rows() for number in row]
    )
    assert Counter(value for value, _ in read.numbers) == wanted
    relative = (bits["adapted"] - bits["base"]) / bits["base"]
    for value, shown in read.numbers:
        number = float(shown.replace("−", "-"))
        decimals = len(shown.partition(".")[2])
        full = 100 * value if value == relative else value
        assert abs(number - full) <= 0.5 * 10.0**-decimals + 1e-9


def test_the_summary_says_it_in_plain_words() -> None:
    assert (
        "On 14 files that were kept aside, bits per byte fell from 0.781 to 0.514 (−34 %; 95 % "
        "interval of the difference −0.314 to −0.219): promoted." in page(record()).text
    )
    kept = replace(
        manifest(verdict="kept-base"),
        metrics={"bits_per_byte": {"base": 0.5, "adapted": 0.6}, "ci95": [-0.1, 0.3]},
    )
    text = page(ReportRecord(repository="r", manifest=kept)).text
    assert (
        "On text that was kept aside, bits per byte rose from 0.500 to 0.600 (+20 %; 95 % interval "
        "of the difference −0.100 to +0.300): the base stays." in text
    )


def test_how_it_was_made_is_the_manifests() -> None:
    pairs = dict(page(record()).pairs)
    details = DETAILS
    assert pairs["labelled tokens"] == str(details["labelled_tokens"])
    assert pairs["training, seconds"] == str(details["training_s"])
    assert pairs["since the command began, seconds"] == str(details["wall_s"])
    assert pairs["peak memory, MB"] == str(details["peak_memory_mb"])
    for group in ("recipe", "prompt", "packages"):
        assert {key: pairs[key] for key in details[group]} == {
            key: str(value) for key, value in details[group].items()
        }
    assert pairs["adapter.gguf"] == "cd" * 32
    assert "ab" * 32 in pairs["Base model"]


def test_every_file_is_there_with_its_rule_and_value() -> None:
    text = page(record()).text
    assert "10 files in all: those of python, go" in text
    for found in data():
        assert text.count(found["path"]) >= 1
    for wanted in (
        "held-out: test (1) kept aside to measure on src/t.py",
        "held-out: tune (1)",
        "src/r.py · python · 0123abc",
        "minified lines too long for people",
        "2 25.0 % 1200 to 5400",
        "min2.py · python · 5400",
    ):
        assert wanted in text


def test_licences_are_counted_over_the_used_files() -> None:
    pairs = dict(page(record()).pairs)
    assert pairs["MIT"] == "5"
    assert pairs["none stated"] == "1"
    assert "GPL-3.0-only" not in pairs
    text = page(record()).text
    assert "Left out for their licence: 1 gpl.go GPL-3.0-only" in text
    older = [{k: v for k, v in one.items() if k != "licence"} for one in data()]
    old = page(ReportRecord(repository="r", manifest=manifest(data=older)))
    assert "No licences are recorded" in old.text


def test_pooled_languages_are_explained() -> None:
    assert "go 2 345 2 of the 20 files" in page(record()).text
    details = {**DETAILS, "pool": {}, "without_adapter": {"kotlin": "3 files are too little"}}
    text = page(record(details=details)).text
    assert "share an adapter" not in text
    assert "kotlin 3 files are too little" in text


def test_no_text_becomes_a_tag() -> None:
    tame = page(record())
    wild = page(record(HOSTILE, HOSTILE, HOSTILE))
    assert wild.tags == tame.tags
    assert wild.text.isprintable()
    # It is there to be read, and nothing in it is invisible.
    assert '</pre></code></li></style><script>alert("1")</script>' in wild.text
    assert (
        "{{ 7 * 7 }}{% raw %}<!-- ]]> \\u202eevil\\u2066 \\x1b[31m \\x00 \\ud800 \\xff" in wild.text
    )


def test_a_path_is_one_line() -> None:
    text = report.render(record(path="src/a\n\tb.py"))
    assert "<li><code>src/a\\n\\tb.py</code>" in text


def test_code_keeps_its_lines() -> None:
    text = report.render(record("\n  a\n\tb\n"))
    # A line end right after <pre> would be dropped by a browser.
    assert "<pre><code>\n  a\n\tb\n</code></pre>" in text


@hypothesis_settings(max_examples=25)
@given(st.text(st.characters(), max_size=40), st.text(st.characters(), min_size=1, max_size=40))
def test_any_text_is_shown_and_harmless(text: str, path: str) -> None:
    tame = page(record("a" if text else "", "b", "c"))
    made = report.render(record(text, path, path))
    assert Page(made).tags == tame.tags
    assert all(letter.isprintable() or letter in "\n\t" for letter in made)


@pytest.mark.parametrize("metrics", [{}, {"bits_per_byte": {"base": 0.0, "adapted": 0.0}}])
@pytest.mark.parametrize("details", [{}, {"losses": [float("nan")], "common_steps": 3}])
def test_what_is_not_recorded_is_not_shown(metrics, details) -> None:
    bare = manifest(
        metrics=metrics, details=details, artefacts={}, version="odd", languages=("go",),
        data=[{"verdict": "train"}, {"verdict": "of a later version", "path": "a"}],
    )  # fmt: skip
    text = page(ReportRecord(repository="r", manifest=bare)).text
    assert "No step was recorded" in text
    assert "of a later version (1)" in text


def test_no_files_at_all_is_a_page_too() -> None:
    assert "0 files" in page(ReportRecord(repository="r", manifest=manifest(data=[]))).text


def test_it_is_written_private(tmp_path) -> None:
    path = report.write(tmp_path, record(HOSTILE))
    assert path == tmp_path / REPORT_HTML
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text(encoding="utf-8") == report.render(record(HOSTILE))
    assert list(tmp_path.iterdir()) == [path]


def test_the_same_record_gives_the_same_page() -> None:
    assert report.render(record()) == report.render(record())


def test_ten_thousand_files_are_no_burden() -> None:
    many = [entry(f"src/{n}.py", "train", "kept", language="python") for n in range(10_000)]
    started = time.perf_counter()
    text = report.render(ReportRecord(repository="r", manifest=manifest(data=many)))
    assert time.perf_counter() - started < 5
    assert len(text) < 2_000_000


def test_it_tells_arms_holdouts_drift_and_the_version_before():
    text = Page(report.render(ReportRecord(repository="r", manifest=manifest()))).text
    for shown in (
        "base 1.315 1.450 +0.135 +0.100 to +0.210 8 places",
        "adapter + retrieval 1.315 1.032 −0.283 −0.400 to +0.010",
        "test drawn by the seed 0.750 0.500 −0.250 −0.300 to −0.200 30 windows of 12 files",
        "may rise by 0.20 2.303 2.318 +0.015 −0.012 to +0.037 16 texts, 3,056 tokens",
        "20260101T000000Z-0000 0.531 0.516 −0.016 −0.037 to +0.005 28 windows of 11 files",
    ):
        assert shown in text


def test_a_manifest_of_before_has_none_of_these():
    new = ("arms", "holdouts", "drift", "active")
    old = {key: value for key, value in METRICS.items() if key not in new}
    text = Page(report.render(ReportRecord(repository="r", manifest=manifest(metrics=old)))).text
    assert "What was forgotten" not in text
    assert "Infilling loss, with" not in text
