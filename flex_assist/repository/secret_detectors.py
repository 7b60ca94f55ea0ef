"""The token formats that detect-secrets knows, looked for where they can be.

Asked line by line, as detect-secrets itself asks, its patterns need seconds a megabyte. Here each
pattern has a gate: what must be true wherever the pattern finds something, and is cheap to ask of a
whole text. Behind its gate the pattern itself decides, so nothing is found that detect-secrets does
not find. That nothing is lost is shown by tests against detect-secrets without gates.

A gate is derived from one pattern and belongs to that pattern alone: it is found by a digest of it.
A pattern without a gate, as a later detect-secrets may bring, sees every line.

All of it takes time that grows with the length of the text, however hostile: a part of a pattern
that could be tried again and again from one place is taken as a whole (``*+``, ``(?>…)``).
"""

import functools
import hashlib
import importlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

# Modules and classes. Left out are those that object to much ordinary code: keywords, entropy,
# addresses, and bare headers of keys.
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
# A group of at least so many characters is the secret in a match; a shorter one is its prefix.
MIN_GROUP_CHARACTERS = 16
# More than stands before the word "key" in "(["'ibm_cloud_iam_api-key".
_PREFIX_CHARACTERS = 32

Span = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Where one pattern of detect-secrets can match.

    Attributes:
        literals: One of them is in every text in which the pattern matches.
        folded: Literals and shape are meant for the folded text: the pattern ignores case.
        shape: Matches a part of whatever the pattern matches; None where the pattern can be run on
            the whole text, for it neither crosses the end of a line nor looks for it.
        shows: What the pattern gets to see of the text around a match of the shape.
        overlaps: Whether a match may begin within another one.
    """

    literals: tuple[str, ...] = ("",)
    folded: bool = False
    shape: re.Pattern[str] | None = None
    shows: Callable[[str, re.Match[str]], Span] | None = None
    overlaps: bool = False


def fold(text: str) -> str:
    """``text`` in lower case, of the same length.

    To a pattern that ignores case four letters outside of ASCII are also ``i``, ``k`` and ``s``.
    """
    if not text.isascii():
        text = text.translate(_FOLDED)
    return text.lower()


_FOLDED = str.maketrans("\u0130\u0131\u212a\u017f", "iiks")


def find_tokens(text: str, folded: str) -> Iterator[tuple[str, int, int]]:
    """Rule, start and end of what the detectors find, detector by detector.

    Args:
        folded: ``fold(text)``.
    """
    for detector in detectors():
        found = set()
        for start, end in _shown(detector.gate, text, folded):
            # A part of the text, for "^", "$" and look-behinds mean the ends of the line.
            whole = (start, end) == (0, len(text))
            for match in detector.pattern.finditer(text if whole else text[start:end]):
                if detector.is_valid is None or _holds(detector.is_valid, match):
                    first, last = secret_span(match)
                    found.add((start + first, start + last))
        for start, end in sorted(found):
            yield detector.rule, start, end


def secret_span(match: re.Match[str]) -> Span:
    """The longest group, if it is long enough to be the secret itself, else all of it."""
    groups = (match.span(number) for number in range(1, match.re.groups + 1))
    start, end = max(groups, key=lambda span: span[1] - span[0], default=(0, 0))
    return (start, end) if end - start >= MIN_GROUP_CHARACTERS else match.span()


def _holds(is_valid: Callable[[str], bool], match: re.Match[str]) -> bool:
    try:
        return is_valid(match.group())
    except RecursionError:
        # A web token with lists within lists; nobody but an attacker writes one.
        return True


def _shown(gate: Gate | None, text: str, folded: str) -> Iterator[Span]:
    if gate is None:
        for line in _LINE.finditer(text):
            yield line.span()
        return
    searched = folded if gate.folded else text
    if not any(literal in searched for literal in gate.literals):
        return
    if gate.shape is None or gate.shows is None:
        yield 0, len(text)
        return
    match = gate.shape.search(searched)
    while match is not None:
        start, end = gate.shows(text, match)
        yield start, end
        # A keyword may stand within the value of another one.
        after = match.start() + 1 if gate.overlaps else max(end, match.end())
        match = gate.shape.search(searched, after)


def _line(text: str, match: re.Match[str]) -> Span:
    start = text.rfind("\n", 0, match.start()) + 1
    end = text.find("\n", match.end())
    return start, len(text) if end < 0 else end


def _match(text: str, match: re.Match[str]) -> Span:
    return match.span()


def _around(text: str, match: re.Match[str]) -> Span:
    # One more behind, which may be a quote or what the pattern must not find there.
    near = max(match.start() - _PREFIX_CHARACTERS, 0)
    start = text.rfind("\n", near, match.start()) + 1
    return max(start, near), match.end() + (text[match.end() : match.end() + 1] not in ("", "\n"))


def _assigned(name: str, value: str, literal: str = "") -> Gate:
    """The gate of what ``build_assignment_regex`` makes; ``name`` may begin after the prefix."""
    shape = rf"(?:{name})[\"']?\]?\x20*+(?:=>|:=|::|=|:)?\x20*+[\"']?{value}"
    return Gate(
        literals=(literal,), folded=True, shape=re.compile(shape), shows=_around, overlaps=True
    )


_LINE = re.compile(r"[^\n]+")
_KEY = "(?:key|pwd|password|pass|token)"
_CLOUDANT = rf"cl(?:oudant|ou)?[_-]?(?:api)?(?:pw|{_KEY})"
_SOFTLAYER = rf"(?:softlayer|sl)[_-]?(?:api)?[_-]?{_KEY}"
_GITHUB = ("ghp_", "gho_", "ghu_", "ghs_", "ghr_")
_GITLAB = ("glpat-", "gldt-", "glft-", "glsoat-", "glrt-")
# For each pattern, by the first digits of its digest, in the order of the detectors.
_GATES = {
    # Artifactory. A match may end with the very character that the next one begins with.
    "a05175058d7f": Gate(shape=re.compile(r"AKC[a-zA-Z0-9]{10}"), shows=_line),
    "da31fe456030": Gate(shape=re.compile(r"AP[\dABCDEF][a-zA-Z0-9]{8}"), shows=_line),
    # AWS, Azure.
    "154cc00389a5": Gate(literals=("A3T", "ABIA", "ACCA", "AKIA", "ASIA")),
    "89cb4b9cda8f": Gate(literals=("aws",), folded=True),
    "ac68f19353ee": Gate(literals=("AccountKey=",)),
    # Cloudant: values of 64 and of 24 characters, given to a name and in an address.
    "f87cf3c35060": _assigned(_CLOUDANT, "[0-9a-f]{64}"),
    "67f51c5eaeaa": _assigned(_CLOUDANT, "[a-z]{24}"),
    "6bccdc7e8c38": Gate(literals=(".cloudant.com",), folded=True),
    "cee961e9b4b8": Gate(literals=(".cloudant.com",), folded=True),
    # Discord, GitHub, GitLab.
    "dc80721b8e98": Gate(),
    "6ea92949b47c": Gate(literals=_GITHUB),
    "5c74be682d03": Gate(literals=_GITLAB),
    "944f16d08448": Gate(literals=("GR1348941",)),
    "d7ceaf67d86e": Gate(literals=("glcbt-",)),
    "abbf37d36ce8": Gate(literals=("glimt-",)),
    "8d7de40d9ed4": Gate(literals=("glptt-",)),
    "b8a8d45fc3b4": Gate(literals=("glagent-",)),
    "6264249e2c67": Gate(literals=("gloas-",)),
    # IBM: cloud, storage.
    "b696e3facd59": _assigned(_KEY, "[a-z0-9_-]{44}(?![a-z0-9_-])"),
    "a207bfa242af": _assigned(
        "secret[-_]?(?:access)?[-_]?key", "[a-f0-9]{48}(?![a-f0-9])", "secret"
    ),
    # JSON web tokens: where the first "eyJ" of a word finds nothing, no other one does.
    "1da2f4c6e436": Gate(
        literals=("eyJ",),
        shape=re.compile(
            r"(?<![A-Za-z0-9_=-])(?>[A-Za-z0-9_=-]*?eyJ)[A-Za-z0-9_=-]++\.[A-Za-z0-9_=-]++\.?"
        ),
        shows=_match,
    ),
    # Mailchimp.
    "0857f510228d": Gate(literals=("-us",)),
    # npm: likewise the first "//" of a line.
    "bd7551f70a95": Gate(
        literals=("/:_authToken=",),
        shape=re.compile(
            r"^(?>[^\n]*?//)[^\n]+/:_authToken=[^\S\n]*+(?:npm_[^\n]|[A-Fa-f0-9-]{36})",
            re.MULTILINE,
        ),
        shows=_line,
    ),
    # OpenAI: likewise the first "sk-" of a word.
    "0a000092c7a4": Gate(
        literals=("T3BlbkFJ",),
        shape=re.compile(
            r"(?<![A-Za-z0-9_-])(?>[A-Za-z0-9_-]*?sk-)[A-Za-z0-9_-]*"
            r"[A-Za-z0-9]{20}T3BlbkFJ[A-Za-z0-9]{20}"
        ),
        shows=_match,
    ),
    # PyPI, SendGrid, Slack.
    "427418f50267": Gate(literals=("pypi-AgEIcHlwaS5vcmc",)),
    "48add66a0e76": Gate(literals=("pypi-AgENdGVzdC5weXBpLm9yZw",)),
    "725d9495d905": Gate(literals=("SG.",)),
    "17262d10c8f6": Gate(literals=("xox",), folded=True),
    "63ed25f27088": Gate(literals=("hooks.slack.com/services/",), folded=True),
    # SoftLayer, Square, Stripe, Telegram, Twilio.
    "a131ace3d757": _assigned(_SOFTLAYER, "[a-z0-9]{64}"),
    "252d3046a8fa": Gate(literals=("softlayer",), folded=True),
    "7cf23da8ef21": Gate(literals=("sq0csp-",)),
    "95a6dee8cf80": Gate(literals=("k_live_",)),
    "8b3efd86d5cf": Gate(shape=re.compile(r":[0-9A-Za-z_-]{35}"), shows=_line),
    "2b81c5dbfbe4": Gate(),
    "89733c83e010": Gate(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Detector:
    """One pattern of detect-secrets.

    Attributes:
        gate: None where there is none for this very pattern.
        is_valid: What detect-secrets asks of a match besides.
    """

    rule: str
    pattern: re.Pattern[str]
    gate: Gate | None
    is_valid: Callable[[str], bool] | None


@functools.cache
def detectors() -> tuple[Detector, ...]:
    """All that are asked. Nothing of them is ever verified over a network."""
    # Imported at first use because it brings an HTTP client along, which is never used.
    found = []
    for module, name in _DETECTORS:
        kind = getattr(importlib.import_module(f"detect_secrets.plugins.{module}"), name)
        rule = str(kind.secret_type).lower().replace(" ", "-")
        found += [
            Detector(
                rule=rule,
                pattern=pattern,
                gate=_GATES.get(pattern_digest(pattern)),
                is_valid=getattr(kind, "is_formally_valid", None),
            )
            for pattern in kind.denylist
        ]
    return tuple(found)


def pattern_digest(pattern: re.Pattern[str]) -> str:
    """What a gate is found by."""
    return hashlib.sha256(f"{pattern.flags} {pattern.pattern}".encode()).hexdigest()[:12]
