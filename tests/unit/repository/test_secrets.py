"""Secrets are found and never shown. All values are made up and put together at run time."""

import random
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flex_assist.repository import secret_values, secrets

ALPHANUMERIC = string.ascii_letters + string.digits
_drawn = random.Random(5)


def draw(count: int, alphabet: str = ALPHANUMERIC) -> str:
    return "".join(_drawn.choice(alphabet) for _ in range(count))


KEY_LINES = [draw(64, ALPHANUMERIC + "+/") for _ in range(6)]
DASHES = "-" * 5
KEY = "\n".join(
    [f"{DASHES}BEGIN RSA PRIVATE KEY{DASHES}", *KEY_LINES, f"{DASHES}END RSA PRIVATE KEY{DASHES}"]
)
JWT = "eyJ" + "hbGciOiJIUzI1NiJ9" + ".eyJ" + "zdWIiOiIxMjM0NTY3ODkwIn0" + "." + draw(42) + "7"

# Rule, the secret, and the line that holds it in place of {}.
CASES = [
    ("aws-token", "AK" + "IA" + draw(15, string.ascii_uppercase) + "7", 'x = "{}"'),
    ("github-token", "gh" + "p_" + draw(35) + "1", 'send("{}")'),
    ("github-token", "github" + "_pat_" + draw(40) + "1", "const t = `{}`;"),
    ("slack-token", "xo" + "xb-" + draw(12, string.digits) + "-" + draw(24), "s = '{}'"),
    ("google-token", "AI" + "za" + draw(34) + "1", "g = `{}`"),
    ("stripe-token", "sk" + "_live_" + draw(23) + "1", 'String K = "{}";'),
    ("model-provider-token", "sk-" + "proj-" + draw(47) + "1", 'String K = "{}";'),
    ("model-provider-token", "hf" + "_" + draw(33) + "1", 'HF = "{}"'),
    ("package-registry-token", "np" + "m_" + draw(35) + "1", "a={}"),
    ("jwt-token", JWT, 'J = "{}"'),
    ("url-credentials", draw(17) + "1", 'D = "postgres://app:{}@db.internal:5432/app"'),
    ("assigned-secret", "hunter-" + draw(10) + "77", 'PASSWORD = "{}"'),
    ("assigned-secret", draw(64, "0123456789abcdef"), '"secret_key": "{}",'),
    ("assigned-secret", "Tr0ub4dor&3", "user.password := '{}'"),
    ("assigned-secret", draw(20) + "12", 'api_key: str = "{}"'),
    ("assigned-secret", draw(20) + "12", 'new Client("token", "{}")'),
    ("assigned-secret", draw(20) + "12", "export DB_PASSWORD={}"),
    ("aws-access-key", draw(38, ALPHANUMERIC) + "7/", 'aws_key_id("{}")'),
    ("sendgrid-api-key", "SG." + draw(21) + "1." + draw(43), 'x("{}")'),
    ("telegram-bot-token", "12345678:" + draw(34) + "1", 'bot("{}")'),
    ("private-key", KEY, 'KEY = """{}"""'),
    ("private-key", KEY.replace("\n", "\\n"), 'KEY = "{}"'),
    # Without any digit.
    ("aws-token", "AK" + "IA" + draw(16, string.ascii_uppercase), 'x = "{}"'),
    ("aws-access-key", "AK" + "IA" + draw(16, string.ascii_uppercase), "x{}"),
    ("gitlab-token", "gl" + "pat-" + draw(20, string.ascii_letters), 'x = "{}"'),
    ("github-token", "gh" + "o_" + draw(36, string.ascii_letters), 'x = "{}"'),
]


@pytest.mark.parametrize(("rule", "secret", "line"), CASES)
def test_secret_is_found_and_not_shown(rule: str, secret: str, line: str) -> None:
    text = "import os\n\n" + line.replace("{}", secret) + "\n\ndef f():\n    pass\n"
    findings = secrets.find_secrets(text)
    assert rule in {finding.rule for finding in findings}
    first = secrets.contains_secret(text)
    assert first is not None
    assert first.line == 3
    assert secret not in repr(findings) + first.describe()
    masked = secrets.redact(text)
    assert secret not in masked
    assert secrets.MASK in masked
    assert masked.count("\n") == text.count("\n")
    assert masked.startswith("import os\n\n")
    assert masked.endswith("\n\ndef f():\n    pass\n")


@pytest.mark.parametrize(
    "line",
    [
        'password = os.environ["DB_PASSWORD"]',
        'password = "changeme"',
        'PASSWORD = "<your-password>"',
        'token = "${TOKEN}"',
        'token_type = "access_token"',
        'TOKEN_URL = "https://example.com/oauth/token"',
        '"token_expired_at": "2027-05-22T10:00:00Z",',
        'secret_name = "projects/main/secrets/db"',
        'headers["Authorization"] = f"Bearer {token}"',
        'token_class = "Qwen2_5OmniToken2WavModel"',
        'url = "https://user:password@example.com/"',
        'url = f"postgres://{user}:{password}@{host}/"',
        'if "-----BEGIN RSA PRIVATE KEY-----" in text:',
        'class_name = "sk-fading-circle-with-many-parts"',
        'from shop import APCDevelopmentServer as "APDefaultSettings"',
        "module = NamesOfTwentyFourLetters.simple.another_name_of_some_letter",
        'digest = "' + "0a1b2c3d" * 8 + '"',
        "revision = '" + "9f8e7d6c5b" * 4 + "'",
        'PASSWORD_FILE = "/run/secrets/db_password"',
        'password_help = "Use eight characters, 1 digit"',
        'secret: "s3"',
        'token_pattern = r"\\b\\w\\w+\\b"',
        "def set_password(self, password: str, again: str) -> None:",
    ],
)
def test_ordinary_code_has_no_secret(line: str) -> None:
    assert secrets.find_secrets(line + "\n") == []
    assert secrets.redact(line) == line


def test_the_tail_of_a_key_is_masked_when_its_header_is_out_of_sight() -> None:
    tail = "\n".join(KEY.split("\n")[3:]) + '\n"""\nafter = 1\n'
    masked = secrets.redact("before = 1\n" + tail)
    assert not any(line in masked for line in KEY_LINES)
    assert masked.startswith("before = 1\n")
    assert masked.endswith("after = 1\n")


def test_an_unfinished_key_is_masked() -> None:
    head = "\n".join(KEY.split("\n")[:4])
    assert not any(line in secrets.redact(head) for line in KEY_LINES)


def test_a_token_in_a_very_long_line_is_found() -> None:
    token = "AC" + draw(31, string.ascii_lowercase + string.digits) + "1"
    for before in (0, 1500, 2040, 9000):
        text = "a1b2c3d4e5f6g7h8 " * (before // 17) + token + " x" * 4000
        rules = {finding.rule for finding in secrets.find_secrets(text)}
        assert "twilio-api-key" in rules
        assert token not in secrets.redact(text)


def test_no_text_takes_time_that_grows_with_its_square() -> None:
    import time

    hostile = ["eyJ", "password = ", 'password="', "a://", "a://a:", "xoxb-1-", "a1", "-----BEGIN "]
    hostile += [f"{DASHES}BEGIN RSA PRIVATE KEY{DASHES}\n", "//a1:_authToken="]
    secrets.contains_secret("warm up 0123456789abcdef0")
    started = time.process_time()
    for piece in hostile:
        secrets.find_secrets(piece * (20_000 // len(piece)))
    # About 0.15 s; the square of the length would be minutes.
    assert time.process_time() - started < 5


@given(st.text(max_size=300))
def test_redacting_keeps_lines_and_masks_all(text: str) -> None:
    masked = secrets.redact(text)
    assert masked.count("\n") == text.count("\n")
    if not secrets.find_secrets(text):
        assert masked == text


@pytest.mark.parametrize("value", ["aaaaaaaa", "{password}", "changeme", "%s", "$HOME", "xxxxxx"])
def test_placeholders(value: str) -> None:
    assert secret_values.is_placeholder(value)
    assert not secret_values.looks_secret(value)


def test_random_values_are_told_from_names() -> None:
    values = [draw(24) for _ in range(300)]
    assert sum(map(secret_values.looks_secret, values)) >= 297


@pytest.mark.parametrize(
    "text",
    [
        'PASSWORD = """Xk29PmQ7Lw"""',
        'password = (\n    "Xk29PmQ7Lw"\n)',
        'password = \\\n    "Xk29PmQ7Lw"',
        'dsn = "Server=db;Password=Tz8kQw2!x;"',
        'dsn = "host=db password=Xk29PmQ7Lw"',
        'parser.add_argument("--password", help=None, default="Xk29PmQ7Lw")',
        'headers = {"X": "Bearer 9f8e7d6c5b4a39281706f5e4"}',
        "curl -u admin:Xk29PmQ7Lw https://host",
        'url = "https://host/path?api_key=Xk29PmQ7Lw"',
        'aws_session_token = "' + "Xk29PmQ7Lw" * 60 + '"',
    ],
)
def test_forms_that_people_use(text: str) -> None:
    assert secrets.find_secrets(text + "\n")


@pytest.mark.parametrize(
    "text",
    [
        'f(password=password, token=token_value)', 'url = f"?token={token}&x=1"',
        'help="usage: login password=<your password>"', 'q = "select * where token=token_id"',
        '# Bearer authentication as in the standard', "docker run -u user:group image",
        'password = (\n    "your password here"\n)',
    ],
)  # fmt: skip
def test_forms_without_a_secret(text: str) -> None:
    assert not secrets.find_secrets(text + "\n")
