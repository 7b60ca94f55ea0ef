"""No text keeps a rule busy: time grows with its length."""

import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flex_assist.repository import duplicates, filters, licences, masking

RULES: dict[str, Callable[[str], object]] = {
    "filters": filters.check_text,
    "decoding": lambda text: filters.decode(text.encode()),
    "masking": masking.mask,
    "licences": licences.of_text,
    "sketch": duplicates.sketch,
}
PIECES = [
    "+1", "+1 (1", "+49 11 ", "1111 ", "4111-", "AB12 CDEF ", "AB12", "a@b.", "a@", "a%", "a-",
    "/home/a", "C:\\\\Users\\\\", "-11-1111", "A", "a=", "(222) ", "222-", "\n# ", "\r", "\r\n",
    "SPDX-License-Identifier: MIT OR ", "gnu general ", "creative commons ", "cc by ",
    "@generated ", "do not edit ", "auto generated ", " ", "\t", "0", "é", "# ",
    "\\", "<", "a@a.a@", "\n", "w ",
]  # fmt: skip


@pytest.mark.parametrize("rule", RULES)
def test_time_grows_with_the_length(rule: str) -> None:
    def seconds(characters: int, piece: str) -> float:
        text = piece * (characters // len(piece))
        started = time.process_time()
        RULES[rule](text)
        RULES[rule]("\n".join(text[at : at + 900] for at in range(0, len(text), 900)))
        return time.process_time() - started

    # A square would cost 64 times as much, and minutes.
    slow = [
        piece for piece in PIECES if seconds(160_000, piece) > max(30 * seconds(20_000, piece), 1.5)
    ]
    assert slow == []


NUMBERS = st.lists(
    st.sampled_from(["+", "-", " ", ".", "(", ")", '"', "GB", "DE", "a", "\n", "٣"])
    | st.text("0123456789", min_size=1, max_size=6)
    | st.sampled_from(["DE89 3704 0044 0532 0130 00", "GB82WEST12345698765432", "(415) 555-2671"])
    | st.sampled_from(["+49 30 901820", "078-05-1120", "4012-8888-8888-1881", "4222222222222"]),
    max_size=12,
).map("".join)


@given(NUMBERS)
def test_numbers_are_masked_as_if_all_were_looked_for(text: str) -> None:
    expected = text
    for _, pattern, _, stand_in in masking._NUMBERS:
        expected = pattern.sub(lambda m, of=stand_in: of(m) or m.group(), expected)
    found = masking.mask(text)[0]
    assert masking.mask(expected)[0] == found
    for part, pattern, _, _ in masking._NUMBERS:
        assert all(part.search(match.group()) for match in pattern.finditer(text))
