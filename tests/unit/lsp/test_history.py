"""What is remembered of the last requests."""

from flex_assist.complete.request import Completion, CompletionRequest
from flex_lsp import history
from flex_lsp.history import History, Outcome, Record

KNOWN = Completion(text="1", language="python", adapter="base", reason="no adapter")


def record(number: int, outcome: Outcome = "shown", characters: int = 10) -> Record:
    return Record(
        identity=f"c{number}", uri="untitled:1", line=0, character=4, surface="inline",
        outcome=outcome, completion=KNOWN if outcome == "shown" else None,
        request=CompletionRequest(before="x" * (characters - 1), after="y"),
    )  # fmt: skip


def test_the_last_200_are_kept() -> None:
    kept = History()
    for number in range(250):
        kept.add(record(number))
    assert [each.identity for each in kept.all()] == [f"c{number}" for number in range(50, 250)]
    assert kept.last("c49") is None


def test_the_texts_of_old_requests_go_when_they_are_too_much() -> None:
    kept = History()
    third = history.KEPT_CHARACTERS // 3
    for number in range(6):
        kept.add(record(number, characters=third))
    assert [each.request is not None for each in kept.all()] == [False] * 3 + [True] * 3
    assert [each.as_json()["can_repeat"] for each in kept.all()][2:4] == [False, True]
    kept.add(record(6, characters=history.KEPT_CHARACTERS + 1))
    assert [each.request for each in kept.all()] == [None] * 7


def test_the_last_is_the_last_that_was_answered() -> None:
    kept = History()
    kept.add(record(1))
    kept.add(record(2, "superseded"))
    kept.accept("c1")
    last = kept.last()
    assert last is not None
    assert last.identity == "c1"
    assert last.lines()[0] == "untitled:1:1:5: a suggestion was shown, and accepted"
    assert "adapter: base; no adapter (python)" in last.lines()
    plain = last.as_json()
    assert plain["text"] == "\n".join(last.lines())
    # The text of the document stays here.
    assert not {"request", "root"} & plain.keys()
    assert "xxxx" not in str(plain)
