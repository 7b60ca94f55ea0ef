"""The gates lose nothing: detect-secrets itself, asked line by line, finds the same."""

import base64
import json
import re
import string
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flex_assist.repository import secret_detectors, secrets
from flex_assist.repository.secret_detectors import Detector

DETECTORS = secret_detectors.detectors()
WORD = string.ascii_letters + string.digits + "_-"


def ungated(text: str) -> set[tuple[str, int, int]]:
    """What detect-secrets finds where it sees each line on its own."""
    found = set()
    for line in re.finditer(r"[^\n]+", text):
        for detector in DETECTORS:
            for match in detector.pattern.finditer(line.group()):
                if detector.is_valid is None or detector.is_valid(match.group()):
                    start, end = secret_detectors.secret_span(match)
                    found.add((detector.rule, line.start() + start, line.start() + end))
    return found


def gated(text: str) -> set[tuple[str, int, int]]:
    return set(secret_detectors.find_tokens(text, secret_detectors.fold(text)))


def web_tokens(member: st.SearchStrategy[object]) -> st.SearchStrategy[str]:
    """Valid ones: texts of two objects, and something behind."""

    def text(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps({"a": value}).encode()).decode().rstrip("=")

    parts = st.tuples(member, member, st.text(WORD, max_size=44).filter(lambda s: len(s) % 4 != 1))
    return parts.map(lambda p: f"{text(p[0])}.{text(p[1])}.{p[2]}")


def tokens(detector: Detector) -> st.SearchStrategy[str]:
    if detector.is_valid is not None:
        return web_tokens(st.one_of(st.text(max_size=20), st.integers()))
    # Without what must stand before and behind, which Hypothesis would also put into the text.
    return st.from_regex(detector.pattern, fullmatch=True).map(lambda t: t.replace("\n", " "))


HINTS = (
    *(
        "key",
        "token",
        "password",
        "pw",
        "api",
        "secret",
        "_",
        "-",
        ".",
        "://",
        "//",
        "@",
        "=",
        ":=",
    ),
    *("=>", "::", " ", "    ", '"', "'", "[", "]", "/:_authToken=", "npm_", "sk-", "eyJ", "aws"),
    *("cl", "CLOU", "sl", "ibm", "\u017fl", "to\u212aen", "\u0130bm", "cos", "hmac", "AKC", "AP5"),
    *("\n", "\n\n", "\r", "\x0b", "\u2028", "xoxb-1-", "https://", "T3BlbkFJ", "-us1", "é", "٣"),
)
NOISE = st.one_of(
    st.sampled_from(HINTS),
    st.text(max_size=12),
    st.builds(lambda c, n: c * n, st.sampled_from("a0A=-_ "), st.integers(1, 90)),
    st.text(WORD, min_size=10, max_size=70),
)


def texts(token: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    cut = st.builds(lambda t, a, b: t[a:-b], token, st.integers(0, 12), st.integers(1, 12))
    return st.lists(st.one_of(NOISE, token, cut), min_size=1, max_size=12).map("".join)


def test_every_pattern_has_a_gate_of_its_own() -> None:
    # A failure means another version of detect-secrets. Its new patterns are slow, not lost:
    # derive a gate from each, and store it under ``pattern_digest(pattern)``.
    without = [(d.rule, d.pattern.pattern) for d in DETECTORS if d.gate is None]
    assert without == []
    digests = {secret_detectors.pattern_digest(detector.pattern) for detector in DETECTORS}
    assert digests == set(secret_detectors._GATES)


def test_no_detector_does_more_than_its_patterns_and_the_check() -> None:
    import detect_secrets.plugins.base as base
    from detect_secrets.plugins.jwt import JwtTokenDetector

    own = []
    for module, name in secret_detectors._DETECTORS:
        kind = getattr(__import__(f"detect_secrets.plugins.{module}", fromlist=[name]), name)
        if kind.analyze_string is not base.RegexBasedDetector.analyze_string:
            own.append(kind)
    assert own == [JwtTokenDetector]


@pytest.mark.parametrize("number", range(len(DETECTORS)))
def test_nothing_is_lost_or_added(number: int) -> None:
    detector = DETECTORS[number]
    seen = 0

    @settings(max_examples=50, deadline=None)
    @given(texts(tokens(detector)))
    def same(text: str) -> None:
        nonlocal seen
        expected = ungated(text)
        seen += any(rule == detector.rule for rule, _, _ in expected)
        assert gated(text) == expected

    same()
    assert seen > 4


@pytest.mark.parametrize("number", range(len(DETECTORS)))
def test_tokens_far_out_in_a_line_are_found(number: int) -> None:
    detector = DETECTORS[number]
    filler = "a1b2c3d4 = [e5f6g7h8, 'i9j0']  " * 400

    @settings(max_examples=2, deadline=None)
    @given(tokens(detector), st.integers(0, 31))
    def same(token: str, more: int) -> None:
        text = filler + " " * more + token + filler + f"\n{token}\n{token}"
        expected = ungated(text)
        assert gated(text) == expected
        assert len({text[s:e] for rule, s, e in expected if rule == detector.rule}) > 0

    same()


def test_a_long_web_token_is_found_whole() -> None:
    # With a blank in its second part, so that our own rule does not know it.
    parts = (b'{"alg": "none"}', b'{ "a": "' + b"x" * 9000 + b'"}')
    token = ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)
    text = f'a = 1\nx = "{token}."\n'
    assert gated(text) == ungated(text) != set()
    assert len(secrets.redact(text)) < 40


def test_a_web_token_of_lists_within_lists_does_not_end_the_run() -> None:
    nested = '{"a":' * 20_000 + "1" + "}" * 20_000
    body = base64.urlsafe_b64encode(nested.encode()).decode().rstrip("=")
    text = f'x = "{body}.{body}.abcd"'
    assert any(finding.rule == "json-web-token" for finding in secrets.find_secrets(text))


def test_patterns_without_a_gate_see_every_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secret_detectors, "_GATES", {})
    secret_detectors.detectors.cache_clear()
    try:
        text = "a = 1\n\nb = 'AP5" + "xYz4" * 9 + " AC" + "0a" * 16 + "'\nc = 'AC" + "1b" * 16 + "'"
        assert all(detector.gate is None for detector in secret_detectors.detectors())
        found = gated(text)
    finally:
        secret_detectors.detectors.cache_clear()
    assert found == ungated(text)
    assert len(found) == 2


def test_folding_is_what_ignoring_case_means() -> None:
    everything = [chr(n) for n in range(0x110000) if not 0xD800 <= n < 0xE000]
    text = "".join(everything)
    folded = secret_detectors.fold(text)
    assert len(folded) == len(text)
    for letter in string.ascii_lowercase:
        alike = set(re.findall(letter, text, re.IGNORECASE))
        alike_in_class = set(re.findall(f"[{letter}]", text, re.IGNORECASE))
        assert alike_in_class == alike
        assert {one for one, low in zip(everything, folded, strict=True) if low == letter} == alike
    # Everything else keeps its kind.
    for kind in (r"\w", r"\s", r"[^\w\s]"):
        one, other = (re.sub(kind, "\0", each) for each in (text, folded))
        assert [c == "\0" for c in one] == [c == "\0" for c in other]


def hostile() -> Iterator[str]:
    yield from ("eyJ", "eyJ.", "-eyJa", "a.eyJ", "sk-", "sk-a", "//", "//a/:_authToken=", "AKC")
    yield from ("awskey'", "aws" + " " * 18 + "key", "xoxb-1-", "glagent-", "glpat-a", "MMMM", "a1")
    yield from ("https://a-", "https://a:", "clkey", "ibm_cloud_iam_api_key ", "secret_access_key=")
    yield from ("1234567890:", "AC0", "0-us", "SG.", "T3BlbkFJ", "-", "=", "password=", 'token = "')
    yield "clkey" + " " * 997
    yield "slkey" + " " * 500 + "=" + " " * 500
    yield "key" + " " * 900 + "a" * 43 + " "
    yield "clpw" + " " * 900 + "a" * 24 + "\n"
    yield "x" * 20 + "T3BlbkFJ" + "x" * 20 + ".sk-" * 200
    yield "/:_authToken=npm_1" + "//" * 500


@pytest.mark.parametrize("piece", list(hostile()), ids=lambda piece: repr(piece[:24]))
def test_time_grows_with_the_length(piece: str) -> None:
    def seconds(characters: int) -> float:
        text = piece * (characters // len(piece))
        started = time.process_time()
        secrets.find_secrets(text)
        secrets.find_secrets(text.replace("\n", " "))
        return time.process_time() - started

    # A square would cost 64 times as much, and minutes.
    assert seconds(160_000) < max(30 * seconds(20_000), 1.5)
