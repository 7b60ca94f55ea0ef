"""Telling a secret value from the ordinary texts that also stand beside names like ``password``."""

import math
import re
from collections import Counter

MIN_ENTROPY_BITS = 2.5
MAX_MEAN_WORD_CHARACTERS = 3.2

_PLACEHOLDER_WORDS = re.compile(
    r"example|sample|dummy|fake|mock|placeholder|change[-_ ]?me|change[-_ ]?this|replace|redacted"
    r"|your[-_ ]|my[-_ ]?(?:secret|pass|token|key)|insert|todo|foo|bar|baz|qux|spam|eggs|lorem"
    r"|test|demo|xxx|\*\*\*|\.\.\.|password|passwd|passphrase|secret|token|api[-_]?key|username"
    r"|credential|invalid|wrong|correct|default|hello|world|none|null|undefined|unset|empty|abc123"
    r"|abcdef|qwerty|letmein|1234",
    re.IGNORECASE,
)
_SHORT_PLACEHOLDERS = frozenset(
    {"pass", "pw", "pwd", "user", "admin", "root", "guest", "postgres", "mysql", "redis", "port"}
)
# Interpolation in the languages at hand, format directives, HTML, calls and subscripts.
_TEMPLATE = re.compile(
    r"\$\{|\$\(|^\$\w|\{\{|\{\w*\}|<[\w -]*>|%\(?\w|#\{|\w\(|\]\[|^@\{|\\\(|&\w+;"
    r"|^<.*>$|\.\.\.$|\\[bBdDsSwW]"
)
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")
_LETTERS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_SPECIAL = re.compile(r"[!@#$%^&*?~]")
# Behind a hyphen a name goes on in one case; "hunter-SEQwqlIntmp" does not.
_ODD_PART = re.compile(r"-(?![A-Z]?[a-z]+\b|[A-Z]+\b)[A-Za-z]{4,}\b")
_ORDINARY = re.compile(
    r"[a-z]+://.*"  # an address
    r"|(?:~|\.{0,2})/[a-z][\w./*:-]*"  # a path
    r"|.*\.(?:py|js|ts|json|ya?ml|txt|pem|key|crt|html?|java|go|env|conf|toml)"  # a file
    r"|\d+(?:\.\d+){1,3}(?:[-+]\w+)?"  # a version, an IP address
    r"|\d{4}-\d\d-\d\d(?:[T ].*)?"  # a date
    r"|#[0-9a-fA-F]{3,8}"  # a colour
    r"|0x[0-9a-fA-F]{1,8}"
    r"|[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+"  # a constant's name
    r"|[a-z][a-z0-9]*(?:[-_.:/][a-z]+[0-9]{0,3})+"  # names in snake, kebab or dotted form
    r"|(?:[A-Za-z_]\w*[.:]{1,2})+[A-Za-z_]\w*"  # a qualified name
)


def looks_secret(value: str) -> bool:
    """Whether a quoted text given to a name like ``password`` is a real secret.

    Wants no blanks, no template, no stand-in, no ordinary name or path; and then either letters
    with digits, letters with special characters, or letters that make no words.
    """
    if any(map(str.isspace, value)) or is_placeholder(value) or _ORDINARY.fullmatch(value):
        return False
    letters = sum(map(str.isalpha, value))
    digits = sum(map(str.isdigit, value))
    if letters < 2 or entropy_bits(value) < MIN_ENTROPY_BITS:
        return False
    if _is_long_name(value):
        return False
    if digits >= 2 or (digits and len(value) >= 8 and not value.rstrip("0123456789").isalpha()):
        return True
    if _SPECIAL.search(value) and digits + sum(map(str.isupper, value)):
        return True
    return len(value) >= 10 and (
        mean_word_characters(value) < MAX_MEAN_WORD_CHARACTERS
        or _ODD_PART.search(value) is not None
    )


def is_placeholder(value: str) -> bool:
    """Whether ``value`` stands for a secret without being one."""
    if value.lower() in _SHORT_PLACEHOLDERS or _TEMPLATE.search(value):
        return True
    if len(set(value)) <= 3:
        return True
    # In a long random text such a word may stand by chance.
    return len(value) < 24 and _PLACEHOLDER_WORDS.search(value) is not None


def _is_long_name(value: str) -> bool:
    # Three words or more, long ones, joined as a name is: "Qwen2_5OmniToken", "hipPeer2Tokens".
    words = _LETTERS.findall(value)
    return (
        value.isidentifier()
        and len(words) >= 3
        and sum(map(len, words)) / len(words) >= 3.5
        and sum(map(len, words)) >= 0.75 * len(value)
    )


def reads_like_name(token: str) -> bool:
    """Whether what has a token's form is made of words: no digit in it, and no short parts.

    Of random letters and digits hardly any text passes for one. The identifiers of AWS keys, which
    are capitals with few digits, are never taken for names.
    """
    if token.startswith("AKIA") or any(map(str.isdigit, token)):
        return False
    return mean_word_characters(token) >= MAX_MEAN_WORD_CHARACTERS


def entropy_bits(value: str) -> float:
    """Shannon entropy of the characters of ``value``, in bits a character."""
    total = len(value)
    return -sum(n / total * math.log2(n / total) for n in Counter(value).values())


def mean_word_characters(value: str) -> float:
    """Mean length of the words that a name is put together from; random letters give short ones."""
    words = _WORD.findall(value)
    return sum(map(len, words)) / max(len(words), 1)
