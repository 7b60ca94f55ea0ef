import pytest

from flex_assist.chat.conversations import Conversation, Message
from flex_assist.chat.export import code_blocks, open_fence, printable, to_markdown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\ttext\n", "plain\ttext\n"),
        ("a\r\nb", "a\nb"),
        (
            "\x1b]52;c;ZXZpbA==\x07",
            "\N{REPLACEMENT CHARACTER}]52;c;ZXZpbA==\N{REPLACEMENT CHARACTER}",
        ),
        ("\x9b31m", "\N{REPLACEMENT CHARACTER}31m"),
        ("if \u202euser\u2066", "if \N{REPLACEMENT CHARACTER}user\N{REPLACEMENT CHARACTER}"),
        ("日本 😀 é", "日本 😀 é"),
    ],
)
def test_what_a_terminal_would_obey_is_made_visible(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("text", "fence"),
    [
        ("no code", None),
        ("```python\nx", "```"),
        ("```python\nx\n```", None),
        ("````\n```\nx", "````"),
        ("~~~\n```\n", "~~~"),
        ("```\na\n```\n```\nb", "```"),
    ],
)
def test_open_fence(text: str, fence: str | None) -> None:
    assert open_fence(text) == fence


def test_code_blocks_in_their_order() -> None:
    text = "A\n```python\nx = 1\n\ny = 2\n```\nB\n````md\n```\ninner\n```\n````\n```\nopen"
    assert code_blocks(text) == ["x = 1\n\ny = 2\n", "```\ninner\n```\n", "open\n"]


def test_a_conversation_as_markdown() -> None:
    conversation = Conversation(
        id=1, title="Why?\x1b", created=0, changed=0, repository="/r", adapter="auto", messages=2
    )
    messages = [
        Message(role="user", text="Why?", created=0),
        Message(
            role="assistant", text="```python\nx", created=1, adapter="python", tokens=7,
            seconds=1.25, stopped=True,
        ),
    ]  # fmt: skip
    text = to_markdown(conversation, messages)
    assert text.startswith("# Why?\N{REPLACEMENT CHARACTER}\n\n")
    assert "repository `/r`" in text
    assert "## FLeX-Assist (adapter python, 7 tokens, 1.2 s, stopped)" in text
    assert text.endswith("```python\nx\n```\n")
