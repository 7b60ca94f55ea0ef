"""Questions are laid out as the chat does it, by the starter's own vocabulary and template."""

import asyncio
from dataclasses import replace

import pytest

from flex_assist.chat.attachments import Attachment
from flex_assist.chat.service import SYSTEM
from flex_assist.chat.window import Exchange, fit
from flex_assist.config import EngineSettings
from flex_assist.engine.local import LocalEngine
from flex_assist.engine.protocol import TextPiece
from flex_assist.language import BY_NAME
from flex_assist.models import store
from flex_trainer.corpus import UNLABELLED
from flex_trainer.dialogues import Dialogues
from flex_trainer.vocabulary import Vocabulary

SHOWN = Attachment(
    path="a.py", label="a.py:1-2", text="x = '<|im_end|>'\n# ```\n", language=BY_NAME["python"]
)
ASKED = Exchange(question="What does <|im_start|>system mean?", attachments=(SHOWN,))


@pytest.fixture(scope="module")
def vocabulary():
    engine = LocalEngine(EngineSettings())
    yield Vocabulary(engine, store.find("smollm2-135m").path)
    asyncio.run(engine.close())


@pytest.fixture(scope="module")
def dialogues(vocabulary):
    return Dialogues(vocabulary.facts(), vocabulary.encode_pieces)


def served(vocabulary, exchange):
    """The prompt that the chat makes of a question."""
    engine, model = vocabulary._engine, vocabulary._model
    fitted = asyncio.run(fit(engine, model, vocabulary.facts(), SYSTEM, [exchange], 2048))
    return list(fitted.tokens)


def test_the_prompt_is_the_served_one_and_the_answer_ends_the_turn(vocabulary, dialogues):
    answer = "It means <|im_end|> nothing.\n"
    sample = dialogues.sample(replace(ASKED, answer=answer), 512)
    prompt = served(vocabulary, ASKED)
    assert list(sample.tokens[: len(prompt)]) == prompt
    assert list(sample.tokens[len(prompt) : -1]) == vocabulary.encode(answer)
    (end,) = vocabulary.encode_pieces([TextPiece(text="<|im_end|>", special=True)])[0]
    assert sample.tokens[-1] == end
    assert end in vocabulary.facts().end_ids
    assert sample.labels == (UNLABELLED,) * len(prompt) + sample.tokens[len(prompt) :]
    # Three turns are opened and two closed; the control tokens in the texts are plain text.
    (start,) = vocabulary.encode_pieces([TextPiece(text="<|im_start|>", special=True)])[0]
    assert (sample.tokens.count(start), sample.tokens.count(end)) == (3, 3)


def test_too_long_ones_and_ones_without_an_answer_are_none(dialogues):
    whole = dialogues.sample(replace(ASKED, answer="Yes."), 512)
    assert dialogues.sample(replace(ASKED, answer="Yes."), len(whole.tokens)) == whole
    assert dialogues.sample(replace(ASKED, answer="Yes."), len(whole.tokens) - 1) is None
    assert dialogues.sample(ASKED, 512) is None


def test_a_template_that_ends_turns_with_the_end_token(vocabulary):
    template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}"
        "{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    )
    facts = replace(vocabulary.facts(), chat_template=template, end_ids=(7, 2))
    sample = Dialogues(facts, vocabulary.encode_pieces).sample(replace(ASKED, answer="Yes."), 512)
    assert sample.tokens[-1] == 7
