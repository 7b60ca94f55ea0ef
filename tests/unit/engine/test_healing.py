"""Which tokens may come while bytes are forced."""

from hypothesis import given
from hypothesis import strategies as st

from flex_assist.engine.healing import Vocabulary

SPELLINGS = [b"", b"r", b"re", b"return", b"ret", b"s", b" re", b"r", b"\xff", b"\xff\xfe", b"rf"]


def brute_force(spellings: list[bytes], forced: bytes) -> set[int]:
    return {
        token
        for token, text in enumerate(spellings)
        if text and (text.startswith(forced) or forced.startswith(text))
    }


def test_tokens_that_go_on_from_the_forced_bytes_and_tokens_that_spell_their_beginning() -> None:
    allowed = Vocabulary(SPELLINGS).allowed(b"re")
    assert set(allowed.tolist()) == {1, 2, 3, 4, 7}


def test_control_tokens_are_never_allowed() -> None:
    assert 0 not in Vocabulary(SPELLINGS).allowed(b"r")


def test_bytes_that_nothing_spells() -> None:
    assert len(Vocabulary(SPELLINGS).allowed(b"zz")) == 0


def test_the_highest_byte_has_no_successor() -> None:
    assert set(Vocabulary(SPELLINGS).allowed(b"\xff").tolist()) == {8, 9}
    assert set(Vocabulary(SPELLINGS).allowed(b"\xff\xfe\x00").tolist()) == {8, 9}


few_bytes = st.binary(max_size=4).map(lambda data: bytes(b"ab\xff\xfe"[byte % 4] for byte in data))


@given(st.lists(few_bytes, max_size=30), few_bytes.filter(bool))
def test_equals_looking_at_every_token(spellings: list[bytes], forced: bytes) -> None:
    allowed = Vocabulary(spellings).allowed(forced).tolist()
    assert len(allowed) == len(set(allowed))
    assert set(allowed) == brute_force(spellings, forced)
