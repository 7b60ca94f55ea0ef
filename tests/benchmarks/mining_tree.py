"""A large tree of source files, the same for the same seed, with known copies and secrets.

Functions and classes of Python's own library, and C of its headers, are put together anew, with
other names, so that no two files are alike unless they are meant to be.
Half of them are written with braces instead: under other languages' names, for rules and tokens.
"""

import base64
import functools
import json
import keyword
import math
import random
import re
import string
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

COPY_SHARE = 0.05
NEAR_COPY_SHARE = 0.05
SECRET_SHARE = 0.002
NEAR_COPIES_OF_ONE = 9
SIZE_SPREAD = 1.0
LARGEST_KB = 400
UNIT_CHARACTERS = (150, 6000)
FILES_IN_FOLDER = 40
# Share of the files, ending, and how it is written.
LANGUAGES = (
    (0.35, ".py", "python"),
    (0.15, ".c", "c"),
    (0.20, ".ts", "braces"),
    (0.15, ".java", "braces"),
    (0.15, ".go", "braces"),
)
_UNIT = re.compile(r"\n(?=def |class |@|async def )")
_C_UNIT = re.compile(r"\n\n+(?=\S)")
_NAME = re.compile(r"\b[A-Za-z_][A-Za-z0-9_]{3,}\b")
_BRACES = (
    (re.compile(r"^([ ]*)(?:async )?def (\w+)\(([^\n]*)\)[^\n]*:$", re.M), r"\1function \2(\3) {"),
    (re.compile(r"^([ ]*)class (\w+)[^\n]*:$", re.M), r"\1export class \2 {"),
    (re.compile(r"^([ ]*)(if|while|for) ([^\n]*):$", re.M), r"\1\2 (\3) {"),
    (re.compile(r"^([ ]*)return\b([^\n]*[^\n,({\[])$", re.M), r"\1return\2;"),
    (re.compile(r"(?<![\"'])#"), "//"),
    (re.compile(r"\bself\."), "this."),
    (re.compile(r"\bNone\b"), "null"),
    (re.compile(r"\b(?:and)\b"), "&&"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is where.

    Attributes:
        secrets: Path to the kind of secret in it.
        copies: Path to the path whose text it repeats.
        near_copies: Groups of files that differ in a few lines.
        total_bytes: Of all texts.
    """

    files: int
    secrets: dict[str, str] = field(default_factory=dict)
    copies: dict[str, str] = field(default_factory=dict)
    near_copies: list[list[str]] = field(default_factory=list)
    total_bytes: int = 0


def make(folder: Path, files: int, megabytes: int, seed: int) -> Plan:
    """Write the tree below ``folder``."""
    mean = megabytes * 1e6 / files
    copies, near = round(files * COPY_SHARE), round(files * NEAR_COPY_SHARE)
    originals = files - copies - near
    rng = random.Random(f"{seed} plan")
    plan = Plan(files=files)
    total = 0
    order = rng.sample(range(originals), originals)
    of_near = set(order[: math.ceil(near / NEAR_COPIES_OF_ONE)])
    of_copies = set(order[len(of_near) : len(of_near) + copies])
    with_secret = order[len(of_near) + len(of_copies) :][: round(files * SECRET_SHARE)]
    kinds = dict(zip(with_secret, _endless(sorted(SECRETS)), strict=False))
    left = near
    for number in range(originals):
        text, path = source(number, mean, seed), place(number, seed)
        if number in kinds:
            text = with_line(text, SECRETS[kinds[number]](rng), rng)
            plan.secrets[path] = kinds[number]
        total += write(folder, path, text)
        if number in of_copies:
            # Below another folder, as a copied file is.
            other = f"copied/{path}"
            plan.copies[other] = path
            total += write(folder, other, text)
        if number in of_near:
            count = min(NEAR_COPIES_OF_ONE, left)
            left -= count
            group = [f"near/{count}{letter}/{path}" for letter in string.ascii_lowercase[:count]]
            plan.near_copies.append([path, *group])
            for one in group:
                total += write(folder, one, near_copy(text, rng))
    return Plan(**{**_fields(plan), "total_bytes": total})


def _fields(plan: Plan) -> dict[str, object]:
    return {name: getattr(plan, name) for name in Plan.__slots__}


def _endless(items: list[str]) -> Iterator[str]:
    while True:
        yield from items


def write(folder: Path, path: str, text: str) -> int:
    """Bytes written."""
    target = folder / path
    if not target.parent.is_dir():
        target.parent.mkdir(parents=True)
    data = text.encode()
    target.write_bytes(data)
    return len(data)


def place(number: int, seed: int) -> str:
    """Where a file lies: folders of some forty files each."""
    rng = random.Random(f"{seed} place {number // FILES_IN_FOLDER}")
    words = vocabulary()
    folder = f"{rng.choice(words)}_{number // FILES_IN_FOLDER}/{rng.choice(words)}"
    test = "tests/test_" if number % 8 == 0 else ""
    return f"{folder}/{test}{words[number % len(words)]}_{number}{language(number)[0]}"


def language(number: int) -> tuple[str, str]:
    """Ending and manner of a file."""
    drawn = (number * 0.6180339887) % 1.0
    for share, ending, manner in LANGUAGES:
        if drawn < share:
            return ending, manner
        drawn -= share
    return LANGUAGES[0][1:]


def source(number: int, mean_characters: float, seed: int) -> str:
    """The text of a file: parts of the corpus under new names."""
    rng = random.Random(f"{seed} text {number}")
    median = mean_characters / math.exp(SIZE_SPREAD**2 / 2)
    wanted = min(rng.lognormvariate(math.log(median), SIZE_SPREAD), LARGEST_KB * 1000)
    _, manner = language(number)
    pool = units("c" if manner == "c" else "python")
    parts: list[str] = []
    size = 0
    while size < wanted:
        part = rng.choice(pool)
        parts.append(part)
        size += len(part) + 2
    text = renamed("\n\n".join(parts), rng)[: max(int(wanted), 200)]
    if manner == "braces":
        for pattern, replacement in _BRACES:
            text = pattern.sub(replacement, text)
    return text.rstrip() + "\n"


def renamed(text: str, rng: random.Random) -> str:
    """``text`` with two thirds of its names changed, each one everywhere alike."""
    words = vocabulary()
    names: dict[str, str] = {}

    def rename(match: re.Match[str]) -> str:
        name = match.group()
        if name not in names:
            keep = keyword.iskeyword(name) or rng.random() < 0.33
            names[name] = name if keep else f"{rng.choice(words)}_{rng.choice(words)}"
        return names[name]

    return _NAME.sub(rename, text)


def near_copy(text: str, rng: random.Random) -> str:
    """``text`` with about every fiftieth line followed by another."""
    lines = text.split("\n")
    for _ in range(max(len(lines) // 50, 1)):
        lines.insert(rng.randrange(len(lines)), f"{rng.choice(vocabulary())} = {rng.random():.4f}")
    return "\n".join(lines)


def with_line(text: str, line: str, rng: random.Random) -> str:
    """``text`` with one line more, somewhere."""
    lines = text.split("\n")
    lines.insert(rng.randrange(len(lines)), line)
    return "\n".join(lines)


@functools.cache
def units(kind: str) -> tuple[str, ...]:
    """Functions, classes and declarations to build from."""
    if kind == "c":
        files = sorted(Path(sysconfig.get_paths()["include"]).rglob("*.h"))
        border = _C_UNIT
    else:
        library = Path(sysconfig.get_paths()["stdlib"])
        files = [*sorted(library.glob("*.py")), *sorted(library.glob("[a-h]*/*.py"))]
        border = _UNIT
    texts = (one.read_text("utf-8", "ignore") for one in files)
    least, most = UNIT_CHARACTERS
    parts = {part.strip("\n") for text in texts for part in border.split(text)}
    return tuple(sorted(part for part in parts if least <= len(part) <= most))


@functools.cache
def vocabulary() -> tuple[str, ...]:
    """Words to make names of."""
    found = {word for unit in units("python") for word in re.findall(r"\b[a-z]{3,9}\b", unit)}
    return tuple(sorted(found - set(keyword.kwlist)))


ALPHANUMERIC = string.ascii_letters + string.digits
LOWER = string.ascii_lowercase + string.digits
HEXADECIMAL = "0123456789abcdef"


def drawn(rng: random.Random, count: int, alphabet: str = ALPHANUMERIC) -> str:
    """Random characters, the last but one a digit."""
    text = "".join(rng.choice(alphabet) for _ in range(count))
    return text[:-2] + rng.choice(string.digits) + text[-1] if count > 2 else text


def web_token(rng: random.Random) -> str:
    """A JSON web token."""
    parts = [{"alg": "HS256", "typ": "JWT"}, {"sub": drawn(rng, 12), "name": drawn(rng, 30)}]
    texts = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode() for part in parts]
    return ".".join([*(text.rstrip("=") for text in texts), drawn(rng, 43)])


def private_key(rng: random.Random) -> str:
    """A key in one line, as a program's text."""
    dashes = "-" * 5
    lines = [drawn(rng, 64, ALPHANUMERIC + "+/") for _ in range(8)]
    body = "\\n".join(lines)
    return f'KEY = "{dashes}BEGIN PRIVATE KEY{dashes}\\n{body}\\n{dashes}END PRIVATE KEY{dashes}"'


# A line for each kind. Nothing here is a secret as it stands.
SECRETS: dict[str, Callable[[random.Random], str]] = {
    "artifactory": lambda r: f'repo = "AKC{drawn(r, 40)}"',
    "artifactory password": lambda r: f'repo = "AP5{drawn(r, 24)}"',
    "assigned password": lambda r: f'db_password = "{drawn(r, 20)}"',
    "aws key id": lambda r: f'x = "AKI{"A" + drawn(r, 16, string.ascii_uppercase + "234567")}"',
    "aws secret": lambda r: f'aws_secret_key = "{drawn(r, 40)}"',
    "azure storage": lambda r: f'c = "AccountKey={drawn(r, 86)}=="',
    "cloudant": lambda r: f"cloudant_password = '{drawn(r, 64, HEXADECIMAL)}'",
    "discord": lambda r: f'd = "M{drawn(r, 23)}.{drawn(r, 6)}.{drawn(r, 27)}"',
    "github": lambda r: f'g = "gh{"p_" + drawn(r, 36)}"',
    "gitlab": lambda r: f'g = "gl{"pat-" + drawn(r, 20)}"',
    "google": lambda r: f'g = "AI{"za" + drawn(r, 35)}"',
    "ibm cloud": lambda r: f'ibm_cloud_api_key = "{drawn(r, 44)}"',
    "ibm storage": lambda r: f'cos_hmac_secret_access_key = "{drawn(r, 48, HEXADECIMAL)}"',
    "mailchimp": lambda r: f'm = "{drawn(r, 32, LOWER)}-us{r.randrange(1, 20)}"',
    "npm": lambda r: f"//registry.example.org/:_authToken=npm_{drawn(r, 36)}",
    "openai": lambda r: f'o = "sk-{drawn(r, 20)}T3Blbk{"FJ" + drawn(r, 20)}"',
    "private key": private_key,
    "pypi": lambda r: f'p = "pypi-AgEIcHlwaS5vcm{"c" + drawn(r, 90)}"',
    "sendgrid": lambda r: f's = "SG{"." + drawn(r, 22)}.{drawn(r, 43)}"',
    "slack": lambda r: f's = "xo{"xb-" + drawn(r, 12, string.digits)}-{drawn(r, 24, LOWER)}"',
    "softlayer": lambda r: f'softlayer_api_key = "{drawn(r, 64, LOWER)}"',
    "square": lambda r: f's = "sq0{"csp-" + drawn(r, 43)}"',
    "stripe": lambda r: f's = "sk_{"live_" + drawn(r, 24)}"',
    "telegram": lambda r: f't = "{drawn(r, 9, string.digits)}:{drawn(r, 35)}"',
    "twilio": lambda r: f't = "A{"C" + drawn(r, 32, LOWER)}"',
    "url": lambda r: f'd = "postgres://app:{drawn(r, 18)}@db.internal:5432/app"',
    "web token": lambda r: f'j = "{web_token(r)}"',
}
