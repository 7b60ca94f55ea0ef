"""Conversations as text: safe to show on a terminal, and as a Markdown document."""

import re
from collections.abc import Sequence
from datetime import datetime

from flex_assist.chat.conversations import Conversation, Message

# Control characters would reach the terminal, and direction marks show code other than it is.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufeff]"
)
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})(.*)$")


def printable(text: str) -> str:
    """``text`` with what a terminal would obey, or nobody would see, made visible."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))


def open_fence(text: str) -> str | None:
    """The fence of a code block that is not closed at the end of ``text``, or None."""
    fence: str | None = None
    for line in text.splitlines():
        found = _FENCE.match(line)
        if not found:
            continue
        mark, rest = found.groups()
        if fence is None:
            fence = mark
        elif mark[0] == fence[0] and len(mark) >= len(fence) and not rest.strip():
            fence = None
    return fence


def code_blocks(text: str) -> list[str]:
    """The contents of the fenced code blocks of a Markdown text, in order."""
    blocks: list[str] = []
    fence: str | None = None
    for line in text.splitlines():
        found = _FENCE.match(line)
        if fence is None and found:
            fence = found.group(1)
            blocks.append("")
        elif found and fence and found.group(1).startswith(fence) and not found.group(2).strip():
            fence = None
        elif fence is not None:
            blocks[-1] += line + "\n"
    return blocks


def to_markdown(conversation: Conversation, messages: Sequence[Message]) -> str:
    """The conversation as a document that people and programs can read."""
    parts = [
        f"# {printable(conversation.title)}",
        f"{_date(conversation.created)} · repository `{printable(conversation.repository)}`",
    ]
    for message in messages:
        text = printable(message.text).strip()
        if fence := open_fence(text):
            text += f"\n{fence}"
        parts += [f"## {_heading(message)}", text]
    return "\n\n".join(parts) + "\n"


def _heading(message: Message) -> str:
    if message.role == "user":
        return f"You, {_date(message.created)}"
    facts = [f"adapter {message.adapter}"] if message.adapter else []
    if message.tokens is not None:
        facts.append(f"{message.tokens} tokens")
    if message.seconds is not None:
        facts.append(f"{message.seconds:.1f} s")
    if message.stopped:
        facts.append("stopped")
    return "FLeX-Assist" + (f" ({', '.join(facts)})" if facts else "")


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M")
