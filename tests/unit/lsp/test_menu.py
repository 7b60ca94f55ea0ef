"""Small pieces: labels, addresses, the history."""

import pytest

from flex_assist.errors import ConfigError
from flex_lsp.cli import address_of
from flex_lsp.handlers.completion import label
from flex_lsp.history import KEPT, History, Record


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("return x", "return x"),
        ("\n    return x", "return x"),
        ("if x:\n    return y\n", "if x:…"),
        ("x" * 61, "x" * 60 + "…"),
    ],
)
def test_labels(text: str, shown: str) -> None:
    assert label(text) == shown


def test_addresses() -> None:
    assert address_of("2087") == ("127.0.0.1", 2087)
    assert address_of("localhost:0") == ("localhost", 0)
    assert address_of("[::1]:5") == ("::1", 5)
    for text in ("", "x", "1:x", "127.0.0.1:70000", "-1", "²"):
        with pytest.raises(ConfigError, match="HOST"):
            address_of(text)


def test_the_history_forgets_the_oldest() -> None:
    history = History()
    for number in range(KEPT + 1):
        history.add(
            Record(
                identity=f"c{number}", uri="u", line=0, character=number, surface="inline",
                outcome="superseded" if number == KEPT else "shown",
            )
        )  # fmt: skip
    assert history.accept("c0") is None
    accepted = history.accept("c1")
    assert accepted is not None
    assert accepted.as_json()["accepted"] is True
    newest = history.last()
    assert newest is not None
    assert newest.identity == f"c{KEPT - 1}"
    assert history.last("c0") is None
