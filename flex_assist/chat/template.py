"""From messages to the model's own chat layout, in which no message can pose as another.

The template never sees a message: it lays out unguessable placeholders, and its output is split at
them. Template text may hold control tokens (``special=True``); message text is encoded as plain
text whatever it contains, so ``<|im_start|>`` typed by a person or found in a file stays ten
harmless characters.
"""

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from flex_assist.chat import sandbox
from flex_assist.engine.protocol import ModelFacts, TextPiece
from flex_assist.errors import ModelError

Role = Literal["system", "user", "assistant"]

# Ends an answer where the model has no template of its own and so perhaps no end token.
PLAIN_STOP_TEXTS = ("<|im_end|>", "<|im_start|>")
PLAIN_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' ~ message.role ~ '\\n' ~ message.content ~ '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{{ '<|im_start|>assistant\\n' }}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One message as the model reads it."""

    role: Role
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlToken:
    """Where the template wants the model's begin-of-text or end-of-text token."""

    kind: Literal["begin", "end"]


Layout = list[TextPiece | ControlToken]


def lay_out(template: str | None, turns: Sequence[Turn]) -> Layout:
    """The prompt for an answer to ``turns``, ready to be turned into tokens.

    Args:
        template: The model's Jinja template; None takes a ChatML layout.

    Raises:
        ModelError: The template fails, or leaves the last turn out.
    """
    source = template if template is not None else PLAIN_TEMPLATE
    try:
        return _lay_out(source, turns)
    except ModelError:
        # Some templates (Gemma's, for one) refuse a system message: it then opens the first turn.
        if not turns or turns[0].role != "system":
            raise
        return _lay_out(source, _without_system(turns))


def pieces_of(layout: Layout) -> list[TextPiece]:
    """The texts of a layout, in order: what is to be turned into tokens."""
    return [part for part in layout if isinstance(part, TextPiece)]


def tokens_of(layout: Layout, encoded: Sequence[Sequence[int]], facts: ModelFacts) -> list[int]:
    """The prompt's tokens.

    Args:
        encoded: The tokens of each of ``pieces_of(layout)``.
    """
    texts = iter(encoded)
    tokens: list[int] = [] if facts.bos_id is None else [facts.bos_id]
    for part in layout:
        if isinstance(part, TextPiece):
            tokens += next(texts)
        elif part.kind == "end":
            tokens += facts.end_ids[:1]
    return tokens


def _lay_out(source: str, turns: Sequence[Turn]) -> Layout:
    nonce = secrets.token_hex(16)
    names = [f"x{nonce}x{index}x" for index in range(len(turns))]
    messages = [
        {"role": turn.role, "content": name} for turn, name in zip(turns, names, strict=True)
    ]
    text = sandbox.render(
        source,
        messages=messages,
        add_generation_prompt=True,
        bos_token=f"x{nonce}xbeginx",
        eos_token=f"x{nonce}xendx",
        tools=None,
        documents=None,
    )
    required = {index for index, turn in enumerate(turns) if turn.role != "assistant"}
    if any(names[index] not in text for index in required):
        raise ModelError(
            "the model's chat template leaves messages out; use another GGUF file of this model"
        )
    return _split(text, re.compile(f"x{nonce}x(begin|end|[0-9]+)x"), turns)


def _split(text: str, placeholder: re.Pattern[str], turns: Sequence[Turn]) -> Layout:
    layout: Layout = []
    for index, part in enumerate(placeholder.split(text)):
        # ``split`` with one group alternates: template text, placeholder's name, template text …
        if index % 2 == 0:
            if part:
                layout.append(TextPiece(text=part, special=True))
        elif part == "begin":
            layout.append(ControlToken(kind="begin"))
        elif part == "end":
            layout.append(ControlToken(kind="end"))
        else:
            layout.append(TextPiece(text=turns[int(part)].text, special=False))
    return layout


def _without_system(turns: Sequence[Turn]) -> list[Turn]:
    system, first, *rest = turns
    return [Turn(role=first.role, text=f"{system.text}\n\n{first.text}"), *rest]
