"""Blotting out what no model should learn by heart, though the code around it is worth learning.

Two kinds: personal data (addresses, numbers that belong to a person, home folders), and random
texts, which are keys or digests and teach nothing either way. Each span is replaced by something
of the same form, so that the code stays code. Texts that are secrets by a rule of their own leave
their file out altogether (``secrets.py``); this is the net below it.
"""

import itertools
import re
from collections import Counter
from collections.abc import Callable

from flex_assist.repository.secret_values import entropy_bits

EMAIL, PHONE, IBAN, CARD, SOCIAL, HOME = "email", "phone", "iban", "card", "social-security", "home"
RANDOM = "random-text"
STAND_IN = "REDACTED"
MIN_RANDOM_CHARACTERS = 20
MIN_HEX_CHARACTERS = 32
MIN_RANDOM_ENTROPY_BITS = 3.2
# The 140 pairs of letters most used in the words of source code: counted over the identifiers of
# Python's standard library and of TypeScript, Java and Go packages, they are 82 % of all pairs. Of
# letters drawn at random they are 21 %.
_USUAL_PAIRS = (
    "in er re te on es en st se ti le at ed or co de nt al ng ar th me et ro it li ec io ta ri tr "
    "an ra ve is ce as nd ea ne he ns pe ct pa di ac ss il ex ma fi ge el nc la ca si rt ll ch lo "
    "pr un ou om na od ut ur mp am ic rs rr pl ha em to ul ts po im su us no ad ho ep op tu ai ue "
    "cl pt tt ap ni id ef ck bl ot ly fo hi ab ol ee wi ke mo ig va rn sp ir so ow ty qu ls oc cr "
    "up do ie mi ag fa os lt pp sh da ba be rm ld lu"
)
USUAL_PAIRS = frozenset(_USUAL_PAIRS.split())
MAX_USUAL_SHARE = 0.5
MIN_PAIRS = 5

_EMAIL = re.compile(
    r"(?<![\w.+%@/-])[A-Za-z0-9][\w.+%-]{0,63}@"
    r"(?P<domain>(?:[A-Za-z0-9-]{1,63}\.){1,5}(?P<top>[A-Za-z]{2,10}))(?![\w@(-])"
)
# Two letters are countries. Of those that are also endings of source files, addresses are rarer
# than expressions such as ``a@b.py``.
_TOPS = re.compile(
    r"(?!py|rs|sh|md|cc|so|pl|ml|kt|vb|ps|tf|hs)[a-z]{2}"
    r"|com|org|net|edu|gov|mil|int|info|biz|name|dev|app|cloud|tech|online|email|mail|site|xyz|pro"
)
_NOBODYS = re.compile(
    r"(?:.*\.)?(?:example|test|invalid|localhost|local)(?:\.\w+)?|users\.noreply\..*"
)
_ROLES = re.compile(
    r"git|hg|svn|email|info|support|contact|noreply|no-reply|donotreply|user|username|name|someone|you|me|root|nobody|foo|bar",
    re.IGNORECASE,
)
_PHONE = re.compile(
    r"(?<![\w.+*/=)-])(?:\+[1-9]\d{0,2}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{1,4}(?:[ .-]\d{2,7}){1,4}"
    # In one piece it may be a number to compute with, unless it stands in quotes or is named.
    r"|(?:(?<=[\"'`])|(?<=tel:)|(?<=tel: ))\+[1-9]\d{7,14}"
    r"|(?:\([2-9]\d\d\) ?|[2-9]\d\d-)[2-9]\d\d-\d{4})(?![\w-])"
)
_IBAN = re.compile(r"\b[A-Z]{2}\d\d(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
_CARD = re.compile(r"(?<![\w.+-])[3-6]\d{3}(?:[ -]?\d{4}){2}[ -]?\d{1,7}(?![\w.-])")
_PUBLIC_CARDS = ("4242424242424242", "4111111111111111", "5555555555554444", "378282246310005")
_SOCIAL = re.compile(r"(?<![\w.-])(?!000|666|9)\d{3}-(?!00)\d\d-(?!0000)\d{4}(?![\w-])")
_HOME = re.compile(r"(?<![\w.])((?:/home/|/Users/|[A-Za-z]:\\{1,2}Users\\{1,2}))([\w.-]{2,40})")
_NO_PERSONS = re.compile(
    r"user|username|you|me|root|admin|administrator|runner|ubuntu|debian|vagrant|node|app|pi|git"
    r"|shared|public|default|test|guest|name|foo|bar|jenkins|travis|circleci|appuser|developer|dev",
    re.IGNORECASE,
)
_LONG_WORD = re.compile(r"(?<![\w+/=-])[A-Za-z0-9+/_-]{20,}={0,2}(?![\w+/=-])")
_HEX = re.compile(r"[0-9a-f]+|[0-9A-F]+")


def mask(text: str) -> tuple[str, Counter[str]]:
    """``text`` with what should not be learnt replaced, and how often by rule.

    Lines stay where they are. Masking again changes nothing.
    """
    found: Counter[str] = Counter()
    if "@" in text:
        text = _replaced(_EMAIL, text, EMAIL, _of_email, found)
    for part, pattern, rule, stand_in in _NUMBERS:
        if part.search(text):
            text = _replaced(pattern, text, rule, stand_in, found)
    if "home/" in text or "Users" in text:
        text = _replaced(_HOME, text, HOME, _of_home, found)
    return _replaced(_LONG_WORD, text, RANDOM, _of_word, found), found


def is_random(word: str) -> bool:
    """Whether a word is drawn rather than written: a key, a digest, an encoded blob."""
    word = word.rstrip("=")
    digits = sum(map(str.isdigit, word))
    if len(word) < MIN_RANDOM_CHARACTERS:
        return False
    if _HEX.fullmatch(word):
        return len(word) >= MIN_HEX_CHARACTERS and 2 <= digits < len(word)
    if digits < 2 and (word.isupper() or word.islower()):
        return False
    # "abcdefgh…", as tables of digits and letters are written.
    counted = sum(0 <= ord(b) - ord(a) <= 1 for a, b in itertools.pairwise(word))
    if 2 * counted > len(word):
        return False
    pairs = [f"{a}{b}" for a, b in itertools.pairwise(word.lower()) if f"{a}{b}".isalpha()]
    usual = sum(map(USUAL_PAIRS.__contains__, pairs))
    return (
        len(pairs) >= MIN_PAIRS
        and usual < MAX_USUAL_SHARE * len(pairs)
        and entropy_bits(word) >= MIN_RANDOM_ENTROPY_BITS
    )


def _replaced(
    pattern: re.Pattern[str],
    text: str,
    rule: str,
    stand_in: Callable[[re.Match[str]], str | None],
    found: Counter[str],
) -> str:
    def replace(match: re.Match[str]) -> str:
        new = stand_in(match)
        if new is None or new == match.group():
            return match.group()
        found[rule] += 1
        return new

    return pattern.sub(replace, text)


def _of_email(match: re.Match[str]) -> str | None:
    person, domain = match.group().split("@")[0], match["domain"].lower()
    if not _TOPS.fullmatch(match["top"].lower()) or _NOBODYS.fullmatch(domain):
        return None
    return None if _ROLES.fullmatch(person) else "name@example.com"


def _of_phone(match: re.Match[str]) -> str | None:
    count = sum(map(str.isdigit, match.group()))
    return _zeroed(match.group()) if 8 <= count <= 15 else None


def _of_iban(match: re.Match[str]) -> str | None:
    plain = match.group().replace(" ", "")
    if not 15 <= len(plain) <= 34:
        return None
    # ISO 13616: the first four letters to the end, A = 10 to Z = 35, the rest by 97 is 1.
    number = "".join(str(int(letter, 36)) for letter in plain[4:] + plain[:4])
    return plain[:2] + _zeroed(match.group()[2:]) if int(number) % 97 == 1 else None


def _of_card(match: re.Match[str]) -> str | None:
    digits = "".join(filter(str.isdigit, match.group()))
    # A bare long number is one that somebody computes with.
    bare = match.group() == digits and not _quoted(match)
    if bare or not 13 <= len(digits) <= 19 or digits in _PUBLIC_CARDS or not _luhn(digits):
        return None
    return _zeroed(match.group())


def _of_social(match: re.Match[str]) -> str:
    return "000-00-0000"


def _of_home(match: re.Match[str]) -> str | None:
    return None if _NO_PERSONS.fullmatch(match[2]) else f"{match[1]}user"


def _of_word(match: re.Match[str]) -> str | None:
    return STAND_IN if is_random(match.group()) else None


def _quoted(match: re.Match[str]) -> bool:
    start, end = match.span()
    return match.string[max(0, start - 1) : start] in ('"', "'", "`") and (
        match.string[end : end + 1] == match.string[start - 1]
    )


def _luhn(digits: str) -> bool:
    doubled = (int(d) * (1 + at % 2) for at, d in enumerate(digits[::-1]))
    return sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0


def _zeroed(text: str) -> str:
    return re.sub(r"[0-9A-Z]", "0", text)


# First a part of all that the pattern matches, which is quickly found to be absent.
_NUMBERS: tuple[
    tuple[re.Pattern[str], re.Pattern[str], str, Callable[[re.Match[str]], str | None]], ...
] = (
    (re.compile(r"[A-Z]\d\d ?[A-Z0-9]{4}"), _IBAN, IBAN, _of_iban),
    (re.compile(r"\d{4}[ -]?\d{4}[ -]?\d{4}"), _CARD, CARD, _of_card),
    (re.compile(r"-\d\d-\d{4}"), _SOCIAL, SOCIAL, _of_social),
    (re.compile(r"\+[1-9]|-\d{4}"), _PHONE, PHONE, _of_phone),
)
