"""Finding secrets in source text, without ever passing one on.

A finding tells the rule and the place, never the text. Rules come from two sources:

- the token formats that detect-secrets knows (``secret_detectors.py``);
- our own rules below, for what those leave open: blocks of private keys with their contents,
  further token formats, credentials in URLs, and values given to names like ``password``.

What has the form of a token and yet reads like a name is no finding, whichever rule saw it
(``secret_values.reads_like_name``): "sk-fading-circle-with-many-parts" is a style.

Each rule takes time that grows with the length of the text, however hostile.
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from flex_assist.repository import secret_detectors
from flex_assist.repository.secret_values import is_placeholder, looks_secret, reads_like_name

MASK = "REDACTED"

# Code that merely handles keys also names the header; a real one has contents behind it.
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----"
    r"(?:(?!-----).){0,400}?[A-Za-z0-9+/]{32}(?:(?!-----(?:BEGIN|END)).){0,20000}"
    r"(?:-----END [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----)?"
    r"|PuTTY-User-Key-File-\d[^\0]{0,200}?Private-Lines:[^\0]{20,4000}",
    re.DOTALL,
)
_PRIVATE_KEY_END = re.compile(r"-----END [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----")
_KEY_LINE = re.compile(r"[A-Za-z0-9+/=]{32}")
_TOKENS = re.compile(
    r"\b(?:"
    r"(?P<aws>(?:AKIA|ASIA|ABIA|ACCA)[0-9A-Z]{16})"
    r"|(?P<github>gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{22,})"
    r"|(?P<gitlab>gl(?:pat|dt|ft|soat|rt|cbt|ptt|imt|agent)-[\w-]{20,})"
    r"|(?P<slack>xox[abeoprs]-[\w-]{10,}|xapp-\d-[\w-]{20,})"
    r"|(?P<google>AIza[\w-]{35}|ya29\.[\w-]{20,}|GOCSPX-[\w-]{20,})"
    r"|(?P<stripe>[rsp]k_(?:live|test)_[A-Za-z0-9]{16,}|whsec_[A-Za-z0-9+/=]{20,})"
    r"|(?P<model_provider>sk-(?:proj-|ant-|svcacct-|or-)?[\w-]{20,}|hf_[A-Za-z0-9]{30,})"
    r"|(?P<package_registry>npm_[A-Za-z0-9]{36}|pypi-[\w-]{50,}|rubygems_[a-f0-9]{48})"
    r"|(?P<cloud>dop_v1_[a-f0-9]{64}|shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}|dckr_pat_[\w-]{20,}"
    r"|SG\.[\w-]{16,}\.[\w-]{16,}|AGE-SECRET-KEY-1[A-Z0-9]{50,})"
    r")"
)
# Where the first "eyJ" of a word finds nothing no other one does, so only that one is tried.
_WEB_TOKEN = re.compile(r"(?<![\w-])(?>[\w-]*?\b(?=eyJ))(eyJ[\w-]{8,}+\.eyJ[\w-]{8,}+\.[\w-]{10,})")
_URL = re.compile(r"\b[a-zA-Z][a-zA-Z0-9+.-]{1,20}://[^\s:/@\"'`<>]{0,80}:([^\s/@\"'`<>]{3,200})@")
_NAME = (
    r"(?:pass(?:wor[dt]|wd|phrase|code)|pwd|secret|token|api_?key|apikey|auth_?key|access_?key"
    r"|account_?key|private_?key|client_?key|encryption_?key|signing_?key|master_?key|credential"
    r"|authorization|bearer)"
)
# name = "value", name: "value", "name": "value", name := "value", name: str = "value",
# ("name", "value"), name => "value". This and the next are for texts in lower case.
_QUOTED = re.compile(
    rf"{_NAME}\w{{0,30}}[\"'`\]]{{0,3}}[ \t]{{0,20}}"
    r"(?::[ \t]*[\w\[\]|. ]{1,30}=|[:=!]?={1,3}>?|:|,(?:[^\n\"'`]{0,40}default[ \t]?=)?|\()"
    # The value may stand on the next line, in brackets or behind a backslash.
    r"[ \t]{0,20}[(\\]?\s{0,40}[@bruf]{0,2}(\"{3}|'{3}|[\"'`])([^\"'`\n]{6,8000})\1"
)
# "host=db password=value", "…;Password=value;", "?api_key=value": inside of other texts.
_INSIDE = re.compile(
    rf"(?<=[?&;\s\"'`,]){_NAME}\w{{0,30}}=([^\s\"'`$(){{}}\[\],;&]{{8,400}})(?=[\"'`;&]|[ \t]+\w+=)"
)
_BEARER = re.compile(r"\bbearer[ \t]+([\w.~+/=-]{16,4000})")
_USER = re.compile(r"(?:^|[\s\"'`])(?:-u|--user)[ \t=]+[\"']?[\w.@-]{1,60}:([^\s\"'`$]{6,200})")
_UNQUOTED = re.compile(
    rf"^[ \t]*(?:export[ \t]+|set[ \t]+|env[ \t]+)?[\w.-]{{0,40}}{_NAME}[\w.-]{{0,30}}="
    r"([^\s\"'`$(){}\[\],;]{8,400})[ \t]*$",
    re.MULTILINE,
)
_ASSIGNED = ((_QUOTED, 2), (_UNQUOTED, 1), (_INSIDE, 1), (_BEARER, 1), (_USER, 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretFinding:
    """Where a secret is, and by which rule. Its text is deliberately not here.

    Attributes:
        line: Counts from 1.
        start: Offset of its first character in the text.
        end: Offset behind its last character.
    """

    rule: str
    line: int
    start: int
    end: int

    def describe(self) -> str:
        """For verdicts and messages."""
        return f"{self.rule} at line {self.line}"


def contains_secret(text: str) -> SecretFinding | None:
    """The first finding by place, or None."""
    return min(find_secrets(text), key=lambda finding: finding.start, default=None)


def redact(text: str) -> str:
    """``text`` with every secret replaced by ``REDACTED``; the number of lines stays the same."""
    pieces = []
    done = 0
    for finding in sorted(find_secrets(text), key=lambda finding: finding.start):
        if finding.end <= done:
            continue
        start = max(finding.start, done)
        pieces += [text[done:start], MASK, "\n" * text.count("\n", start, finding.end)]
        done = finding.end
    return "".join(pieces) + text[done:]


def find_secrets(text: str) -> list[SecretFinding]:
    """All findings, rule by rule; they may overlap."""
    folded = secret_detectors.fold(text)
    spans = [span for source in _SOURCES for span in source(text, folded)]
    if not spans:
        return []
    line_starts = [0] + [match.end() for match in re.finditer("\n", text)]
    return [
        SecretFinding(rule=rule, line=bisect_right(line_starts, start), start=start, end=end)
        for rule, start, end in spans
    ]


def _private_keys(text: str, folded: str) -> Iterator[tuple[str, int, int]]:
    if "PRIVATE KEY" not in text and "PuTTY-User-Key-File" not in text:
        return
    done = 0
    for match in _PRIVATE_KEY.finditer(text):
        yield "private-key", match.start(), match.end()
        done = match.end()
    # The tail of a key whose header is out of sight, as in a cut-out of a file.
    tail = _PRIVATE_KEY_END.search(text, done)
    if tail is not None:
        start = text.rfind("\n", 0, tail.start()) + 1
        while start > done:
            before = text.rfind("\n", 0, start - 1) + 1
            if not _KEY_LINE.search(text, before, start) and start < tail.start() - 200:
                break
            start = before
        if _KEY_LINE.search(text, start, tail.start()):
            yield "private-key", start, tail.end()


def _known_tokens(text: str, folded: str) -> Iterator[tuple[str, int, int]]:
    for match in _TOKENS.finditer(text):
        if not reads_like_name(match.group()):
            yield f"{match.lastgroup}-token".replace("_", "-"), match.start(), match.end()
    if "eyJ" in text:
        for match in _WEB_TOKEN.finditer(text):
            yield "jwt-token", match.start(1), match.end(1)


def _url_credentials(text: str, folded: str) -> Iterator[tuple[str, int, int]]:
    if "://" in text:
        for match in _URL.finditer(text):
            if not is_placeholder(match.group(1)):
                yield "url-credentials", match.start(1), match.end(1)


def _assignments(text: str, folded: str) -> Iterator[tuple[str, int, int]]:
    for pattern, group in _ASSIGNED:
        for match in pattern.finditer(folded):
            start, end = match.span(group)
            if looks_secret(text[start:end]):
                yield "assigned-secret", start, end


def _detected_tokens(text: str, folded: str) -> Iterator[tuple[str, int, int]]:
    for rule, start, end in secret_detectors.find_tokens(text, folded):
        if not reads_like_name(text[start:end]):
            yield rule, start, end


_SOURCES: tuple[Callable[[str, str], Iterator[tuple[str, int, int]]], ...] = (
    _private_keys,
    _known_tokens,
    _url_credentials,
    _assignments,
    _detected_tokens,
)
