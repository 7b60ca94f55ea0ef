"""No two sides of a split hold texts that are alike."""

import random

from hypothesis import given
from hypothesis import strategies as st

from flex_assist.repository import duplicates
from flex_assist.repository.examine import Source
from flex_assist.repository.partition import Partition, divide, drop_copies, key

WORDS = ("alpha", "beta", "gamma", "delta", "total", "left", "right", "value", "index", "return")


def grams(text: str) -> set[tuple[str, ...]]:
    words = text.split()
    return {tuple(words[at : at + 5]) for at in range(max(1, len(words) - 4))}


def alike(one: str, other: str) -> bool:
    left, right = grams(one), grams(other)
    return len(left & right) >= duplicates.THRESHOLD * len(left | right)


def source(path: str, text: str, language: str = "python") -> Source:
    return Source(path=path, language=language, text=text, sha256=duplicates.digest(text))


@st.composite
def repositories(draw: st.DrawFn) -> list[Source]:
    """Some files, and variants of them that share from half to nearly all of their words."""
    rng = random.Random(draw(st.integers(0, 10**6)))
    families = draw(st.integers(1, 12))
    sources = []
    for family in range(families):
        words = [f"{rng.choice(WORDS)}{rng.randrange(200)}" for _ in range(60)]
        for variant in range(draw(st.integers(1, 6))):
            own = list(words)
            for _ in range(draw(st.integers(0, 6))):
                own[rng.randrange(len(own))] = f"other{rng.randrange(10**6)}"
            sources.append(source(f"f{family}/v{variant}.py", " ".join(own)))
    return sorted(drop_copies(sources), key=lambda one: one.path)


@given(repositories(), st.integers(0, 5), st.floats(0.1, 0.5))
def test_no_near_duplicates_across_sides(sources: list[Source], seed: int, share: float) -> None:
    kept = [one for one in sources if one.objection is None]
    made = divide(kept, share=share, seed=seed)
    apart(made)
    assert {key(one) for one in kept} == {key(one) for one in made.documents} | set(made.objections)
    assert made == divide(kept, share=share, seed=seed)


def apart(made: Partition) -> None:
    sides = [made.of("recent", "test"), made.of("tune"), made.of("train")]
    for at, left in enumerate(sides):
        for right in sides[at + 1 :]:
            for one in left:
                assert not [other.path for other in right if alike(one.text, other.text)]


def test_parts_of_one_file_stay_together() -> None:
    rng = random.Random(1)
    texts = [" ".join(f"{rng.choice(WORDS)}{rng.randrange(999)}" for _ in range(50))
             for _ in range(80)]  # fmt: skip
    sources = [
        source(f"page{at // 2}.vue", text, ("typescript", "css")[at % 2])
        for at, text in enumerate(texts)
    ]
    made = divide(sources, share=0.3, seed=0)
    for number in range(40):
        sides = {made.sides[key(one)] for one in made.documents
                 if one.path == f"page{number}.vue"}  # fmt: skip
        assert len(sides) == 1
    assert made.of("test")


def test_copies_name_the_one_that_stays() -> None:
    sources = drop_copies([source("a/x.py", "same"), source("a/y.py", "z"), source("b.py", "same")])
    assert [one.objection and one.objection.value for one in sources] == [None, None, "a/x.py"]
