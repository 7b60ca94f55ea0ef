"""Personal data and random texts are blotted out; ordinary code is left as it is."""

import random
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flex_assist.repository.masking import is_random, mask

KEY = "q7Zk2mXw9Lr4Tb8Vn3Hs6Jd1"
BASE62 = string.ascii_letters + string.digits


@pytest.mark.parametrize(
    ("text", "masked", "rule"),
    [
        ("# by Jane <jane.doe@corp-mail.com>", "# by Jane <name@example.com>", "email"),
        ("mailto:j.d+x@uni-y.ac.uk", "mailto:name@example.com", "email"),
        ('"+49 30 1234 5678"', '"+00 00 0000 0000"', "phone"),
        ("call (415) 555-2671 now", "call (000) 000-0000 now", "phone"),
        ('"+14155552671"', '"+00000000000"', "phone"),
        ("tel:+491701234567", "tel:+000000000000", "phone"),
        ('"+49 30 901820-17"', '"+00 00 000000-00"', "phone"),
        ('"+49 (0)30 901820"', '"+00 (0)00 000000"', "phone"),
        ("IBAN DE89 3704 0044 0532 0130 00", "IBAN DE00 0000 0000 0000 0000 00", "iban"),
        ('card = "4539 5787 6362 1486"', 'card = "0000 0000 0000 0000"', "card"),
        ("ssn: 219-09-9999", "ssn: 000-00-0000", "social-security"),
        ("/home/jdoe/src", "/home/user/src", "home"),
        (r"C:\Users\jane.doe\x", r"C:\Users\user\x", "home"),
        (f'value = "{KEY}"', 'value = "REDACTED"', "random-text"),
        (f"# see {KEY}==", "# see REDACTED", "random-text"),
        ("d = '9e107d9d372bb6826bd81d3542a419d6'", "d = 'REDACTED'", "random-text"),
    ],
)
def test_masked(text: str, masked: str, rule: str) -> None:
    assert mask(text) == (masked, {rule: 1})
    assert mask(masked) == (masked, {})


@pytest.mark.parametrize(
    "text",
    [
        "git@github.com:x/y.git", "@app.route", "x = a@b.T", "w@self.weight", "user@example.com",
        "name@host.invalid", "npm i left-pad@1.2.3", "import x.y@z.py", "noreply@corp-mail.com",
        "date = 2024-01-31", "x = a +1234567890", "1234-5678-9012", "4242 4242 4242 4242",
        "seed = 3562050283508273023", "/home/user/x", "/Users/runner/work", "12-34-5678",
        "test_reads_the_configuration_file_in_order", "getElementsByTagNameNS2AndMore",
        "MAX_RETRIES_BEFORE_GIVING_UP_1", "github.com/someone/some-project/pkg/v2/internal",
        "-----------------------------------", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "abcdefghijklmnopqrstuvwxyz0123456789", "sha256", "0xdeadbeef", "550e8400",
    ],
)  # fmt: skip
def test_left_as_it_is(text: str) -> None:
    assert mask(text) == (text, {})


@pytest.mark.parametrize(
    ("letters", "length"),
    [(BASE62, 32), (BASE62 + "+/", 40), ("0123456789abcdef", 32), (BASE62 + "-_", 43),
     (string.ascii_uppercase + "234567", 32), (string.ascii_lowercase + string.digits, 40)],
)  # fmt: skip
def test_keys_are_random_texts(letters: str, length: int) -> None:
    rng = random.Random(5)
    keys = ["".join(rng.choices(letters, k=length)) for _ in range(500)]
    assert sum(map(is_random, keys)) >= 0.96 * len(keys)


@given(st.text(alphabet=BASE62 + " @.-+/=\n\"'()é", max_size=300))
def test_lines_stay_and_masking_again_changes_nothing(text: str) -> None:
    masked, found = mask(text)
    assert masked.count("\n") == text.count("\n")
    assert (masked == text) == (not found)
    assert mask(masked)[0] == masked
