"""Text from tokens: whole characters, stop texts across pieces, drawing tokens."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flex_assist.engine.generation import Answer, Sampler, check
from flex_assist.engine.protocol import GenerateRequest, Weights
from flex_assist.errors import EngineError


def feed(answer: Answer, parts: list[bytes]) -> str:
    shown = ""
    for part in parts:
        shown += answer.add(part)
        if answer.stopped:
            return shown + answer.rest()
    return shown + answer.rest()


def test_a_character_in_two_tokens_is_shown_once_it_is_whole() -> None:
    answer = Answer(())
    euro = "€".encode()
    assert answer.add(b"a" + euro[:1]) == "a"
    assert answer.add(euro[1:2]) == ""
    assert answer.add(euro[2:] + b"b") == "€b"


def test_a_character_that_never_ends_is_dropped() -> None:
    answer = Answer(())
    assert feed(answer, [b"ok", "€".encode()[:2]]) == "ok"
    assert answer.text == "ok"


def test_a_stop_text_across_tokens_is_never_shown() -> None:
    answer = Answer(("\n\n",))
    assert answer.add(b"a\n") == "a"
    assert answer.add(b"\nrest") == ""
    assert answer.stopped
    assert answer.text == "a"
    assert answer.rest() == ""


def test_what_only_looked_like_a_stop_text_is_shown_after_all() -> None:
    answer = Answer(("</s>",))
    assert answer.add(b"x</") == "x"
    assert answer.add(b"b>") == "</b>"


def test_the_first_stop_text_counts() -> None:
    answer = Answer(("END", "\n"))
    assert feed(answer, [b"a\nb END"]) == "a"


def test_a_stop_text_in_the_forced_part_does_not_count() -> None:
    answer = Answer(("\n",), forced=b"\n  ")
    assert feed(answer, [b"\n", b"  x", b"\ny"]) == "\n  x"


stops = st.lists(st.text("ab\n", min_size=1, max_size=3), max_size=3)


@given(st.text("ab\n€", max_size=30), stops, st.data())
def test_pieces_join_to_the_text_up_to_the_first_stop(
    text: str, stop_texts: list[str], data: st.DataObject
) -> None:
    raw = text.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    bounds = [0, *cuts, len(raw)]
    parts = [raw[a:b] for a, b in itertools.pairwise(bounds)]
    answer = Answer(stop_texts)
    shown = feed(answer, parts)
    assert shown == answer.text
    ends = [at for stop in stop_texts if (at := text.find(stop)) >= 0]
    # Several stops can end in one piece; cutting there is what a token at a time would do.
    expected = text[: min(ends)] if ends else text
    if not ends:
        assert shown == text
    else:
        assert shown.startswith(expected) or expected.startswith(shown)
        assert all(stop not in shown for stop in stop_texts)


def logits_of(probabilities: list[float]) -> np.ndarray:
    return np.log(np.array(probabilities, dtype=np.float32))


def test_temperature_zero_takes_the_likeliest_and_the_lowest_of_equals() -> None:
    assert Sampler(0.0, 0.9, 0).pick(np.array([0.0, 2.0, 2.0], np.float32)) == 1


def test_the_same_seed_draws_the_same() -> None:
    logits = np.random.default_rng(1).normal(size=500).astype(np.float32)
    one, two = Sampler(1.0, 0.95, 7), Sampler(1.0, 0.95, 7)
    first = [one.pick(logits) for _ in range(50)]
    assert first == [two.pick(logits) for _ in range(50)]
    other = Sampler(1.0, 0.95, 8)
    assert first != [other.pick(logits) for _ in range(50)]


def test_only_the_nucleus_is_drawn_from() -> None:
    sampler = Sampler(1.0, 0.7, 0)
    drawn = {sampler.pick(logits_of([0.05, 0.5, 0.3, 0.15])) for _ in range(300)}
    assert drawn == {1, 2}


def test_frequencies_follow_the_probabilities() -> None:
    sampler = Sampler(1.0, 1.0, 0)
    drawn = [sampler.pick(logits_of([0.1, 0.6, 0.3])) for _ in range(4000)]
    shares = np.bincount(drawn, minlength=3) / len(drawn)
    assert np.allclose(shares, [0.1, 0.6, 0.3], atol=0.03)


def test_temperature_flattens() -> None:
    hot, cold = Sampler(2.0, 1.0, 0), Sampler(0.25, 1.0, 0)
    logits = logits_of([0.7, 0.3])
    assert sum(hot.pick(logits) for _ in range(500)) > 100
    assert sum(cold.pick(logits) for _ in range(500)) < 50


def test_masked_tokens_are_never_drawn() -> None:
    logits = np.array([-np.inf, 0.0, -np.inf], np.float32)
    assert {Sampler(1.0, 1.0, seed).pick(logits) for seed in range(20)} == {1}


@pytest.mark.parametrize(
    "wrong",
    [{"max_tokens": 0}, {"temperature": -1.0}, {"temperature": math.nan}, {"top_p": 0.0}],
)
def test_senseless_requests_are_refused_with_the_value(wrong: dict[str, float]) -> None:
    fields = {"weights": Weights(model=Path("m")), "tokens": (1,), "max_tokens": 1, **wrong}
    with pytest.raises(EngineError, match=str(next(iter(wrong)))):
        check(GenerateRequest(**fields))
