"""Cases for people: in the proportions that there are, in the order that was drawn."""

from hypothesis import given
from hypothesis import strategies as st

from flex_assist.evaluate.cases import Case
from flex_assist.repository.documents import Document
from flex_trainer.report_examples import MOST_CHARACTERS, MOST_LINES, apportioned, choose

TEXT = "".join(f"line {at}\n" for at in range(40)) + "wanted text\nafter\n"
START = TEXT.index("wanted")
DOCUMENT = Document(path="a.py", language="python", text=TEXT, sha256="0", is_test=False, cluster=0)
CASE = Case(document=DOCUMENT, start=START, end=START + len("wanted text"))
# What base and adapted model wrote.
OF_OUTCOME = {
    "closer": ("nothing", "wanted text"),
    "further": ("wanted text", "nothing"),
    "equal": ("other", "other"),
}


def chosen(outcomes: list[str], most: int = 12):
    base, adapted = zip(*(OF_OUTCOME[one] for one in outcomes), strict=True)
    return choose([CASE] * len(outcomes), base, adapted, most)


def test_a_few_are_all_shown_in_their_order() -> None:
    outcomes = ["equal", "closer", "further", "closer"]
    found = chosen(outcomes)
    assert [one.outcome for one in found.shown] == outcomes
    assert found.all_counts == {"closer": 2, "further": 1, "equal": 1}


def test_many_are_shown_in_proportion() -> None:
    found = chosen(["further"] * 30 + ["closer"] * 20 + ["equal"] * 10)
    shown = [one.outcome for one in found.shown]
    assert shown == ["further"] * 6 + ["closer"] * 4 + ["equal"] * 2
    assert sum(found.all_counts.values()) == 60


def test_the_first_of_each_are_taken_whatever_they_hold() -> None:
    adapted = ["wanted text" + "x" * (40 - at) for at in range(40)]
    found = choose([CASE] * 40, ["nothing"] * 40, adapted, 5)
    assert [one.adapted.text for one in found.shown] == adapted[:5]


def test_an_example_has_the_end_of_what_stood_before() -> None:
    (found,) = chosen(["closer"]).shown
    assert found.before.endswith("line 38\nline 39\n")
    assert found.before.count("\n") == MOST_LINES - 1
    assert (found.path, found.line, found.wanted) == ("a.py", 41, "wanted text")
    assert (found.adapted.exact, found.base.exact) == (True, False)
    assert found.adapted.similarity == 1.0
    long = Document(
        path="b.py", language="python", text="x" * 5000, sha256="0", is_test=False, cluster=0
    )
    found = choose([Case(document=long, start=4000, end=4001)], [""], ["x"]).shown[0]
    assert len(found.before) == MOST_CHARACTERS


def test_without_cases_there_are_none() -> None:
    assert choose([], [], []).shown == ()


@given(
    st.dictionaries(st.sampled_from(["a", "b", "c"]), st.integers(0, 200), min_size=1),
    st.integers(1, 20),
)
def test_shares_are_fair(counts, most) -> None:
    shares = apportioned(counts, most)
    total = sum(counts.values())
    assert sum(shares.values()) == min(most, total)
    for name, count in counts.items():
        assert shares[name] <= count
        if total > most:
            assert abs(shares[name] - count * most / total) < 1
