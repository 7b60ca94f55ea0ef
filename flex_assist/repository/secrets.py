"""Finding secrets in source text, without ever passing one on.

A finding tells the rule and the place, never the text. Rules come from two sources:

- the token formats that detect-secrets knows, run in memory on the few lines that hold a long word
  with a digit in it; its keyword, entropy, address and bare-header detectors are left out, for
  they object to much ordinary code, and nothing is ever verified over a network;
- our own rules below, for what those leave open: blocks of private keys with their contents,
  further token formats, credentials in URLs, and values given to names like ``password``.
"""

import functools
import importlib
import itertools
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flex_assist.repository.secret_values import is_placeholder, looks_secret

if TYPE_CHECKING:
    from detect_secrets.plugins.base import BasePlugin

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
    r"|(?P<jwt>eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{10,})"
    r")"
)
_URL = re.compile(r"\b[a-zA-Z][a-zA-Z0-9+.-]{1,20}://[^\s:/@\"'`<>]{0,80}:([^\s/@\"'`<>]{3,200})@")
_NAME = (
    r"(?:pass(?:wor[dt]|wd|phrase|code)|pwd|secret|token|api_?key|apikey|auth_?key|access_?key"
    r"|account_?key|private_?key|client_?key|encryption_?key|signing_?key|master_?key|credential"
    r"|authorization|bearer)"
)
# name = "value", name: "value", "name": "value", name := "value", name: str = "value",
# ("name", "value"), name => "value".
_QUOTED = re.compile(
    rf"{_NAME}\w{{0,30}}[\"'`\]]{{0,3}}[ \t]{{0,20}}"
    r"(?::[ \t]*[\w\[\]|. ]{1,30}=|[:=!]?={1,3}>?|:|,|\()"
    r"[ \t]{0,20}[@bruf]{0,2}([\"'`])([^\"'`\n]{6,400})\1",
    re.IGNORECASE,
)
_UNQUOTED = re.compile(
    rf"^[ \t]*(?:export[ \t]+|set[ \t]+|ENV[ \t]+)?[\w.-]{{0,40}}{_NAME}[\w.-]{{0,30}}="
    r"([^\s\"'`$(){}\[\],;]{8,400})[ \t]*$",
    re.IGNORECASE | re.MULTILINE,
)
_LONG_WORD = re.compile(r"[A-Za-z0-9+/=_-]{16,}")
# Modules and classes of detect-secrets.
_DETECTORS = (
    ("artifactory", "ArtifactoryDetector"),
    ("aws", "AWSKeyDetector"),
    ("azure_storage_key", "AzureStorageKeyDetector"),
    ("cloudant", "CloudantDetector"),
    ("discord", "DiscordBotTokenDetector"),
    ("github_token", "GitHubTokenDetector"),
    ("gitlab_token", "GitLabTokenDetector"),
    ("ibm_cloud_iam", "IbmCloudIamDetector"),
    ("ibm_cos_hmac", "IbmCosHmacDetector"),
    ("jwt", "JwtTokenDetector"),
    ("mailchimp", "MailchimpDetector"),
    ("npm", "NpmDetector"),
    ("openai", "OpenAIDetector"),
    ("pypi_token", "PypiTokenDetector"),
    ("sendgrid", "SendGridDetector"),
    ("slack", "SlackDetector"),
    ("softlayer", "SoftlayerDetector"),
    ("square_oauth", "SquareOAuthDetector"),
    ("stripe", "StripeDetector"),
    ("telegram_token", "TelegramBotTokenDetector"),
    ("twilio", "TwilioKeyDetector"),
)
# Foreign patterns may need time that grows with the square of a line's length; longer lines are
# shown to them in pieces that overlap by more than any token's length.
_PIECE_CHARACTERS = 2048
_PIECE_OVERLAP = 512


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
    line_starts = [0] + [match.end() for match in re.finditer("\n", text)]
    return [
        SecretFinding(rule=rule, line=bisect_right(line_starts, start), start=start, end=end)
        for source in _SOURCES
        for rule, start, end in source(text)
    ]


def _private_keys(text: str) -> Iterator[tuple[str, int, int]]:
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


def _known_tokens(text: str) -> Iterator[tuple[str, int, int]]:
    for match in _TOKENS.finditer(text):
        # Names of variables and styles can look like a token ("sk-fading-circle-with-…").
        if any(map(str.isdigit, match.group())):
            yield f"{match.lastgroup}-token".replace("_", "-"), match.start(), match.end()


def _url_credentials(text: str) -> Iterator[tuple[str, int, int]]:
    if "://" in text:
        for match in _URL.finditer(text):
            if not is_placeholder(match.group(1)):
                yield "url-credentials", match.start(1), match.end(1)


def _assignments(text: str) -> Iterator[tuple[str, int, int]]:
    for pattern, group in ((_QUOTED, 2), (_UNQUOTED, 1)):
        for match in pattern.finditer(text):
            if looks_secret(match.group(group)):
                yield "assigned-secret", match.start(group), match.end(group)


def _detect_secrets(text: str) -> Iterator[tuple[str, int, int]]:
    pieces = list(_suspicious_pieces(text))
    if not pieces:
        return
    # One text of all pieces, so that each pattern runs once instead of once a line.
    joined = "\n".join(text[start:end] for start, end in pieces)
    starts = [0, *itertools.accumulate(end - start + 1 for start, end in pieces)]
    for name, plugin in _plugins():
        after = 0
        for value in plugin.analyze_string(joined):
            place = joined.find(value, after)
            if place < 0 or not any(map(str.isdigit, value)):
                continue
            after = place + 1
            piece = bisect_right(starts, place) - 1
            start = pieces[piece][0] + place - starts[piece]
            yield name, start, start + len(value)


def _suspicious_pieces(text: str) -> Iterator[tuple[int, int]]:
    """Spans of the lines that hold a long word with a digit in it."""
    done = 0
    for word in _LONG_WORD.finditer(text):
        if word.start() < done or not any(map(str.isdigit, word.group())):
            continue
        start = text.rfind("\n", 0, word.start()) + 1
        end = text.find("\n", word.end())
        done = len(text) if end < 0 else end
        while done - start > _PIECE_CHARACTERS:
            yield start, start + _PIECE_CHARACTERS
            start += _PIECE_CHARACTERS - _PIECE_OVERLAP
        yield start, done


@functools.cache
def _plugins() -> "tuple[tuple[str, BasePlugin], ...]":
    # Imported at first use because it brings an HTTP client along, which is never used.
    plugins: list[tuple[str, BasePlugin]] = []
    for module, name in _DETECTORS:
        kind = getattr(importlib.import_module(f"detect_secrets.plugins.{module}"), name)
        plugins.append((str(kind.secret_type).lower().replace(" ", "-"), kind()))
    return tuple(plugins)


_SOURCES: tuple[Callable[[str], Iterator[tuple[str, int, int]]], ...] = (
    _private_keys,
    _known_tokens,
    _url_credentials,
    _assignments,
    _detect_secrets,
)
