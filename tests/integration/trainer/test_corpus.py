"""Samples of training are the prompts of serving, by the starter's own vocabulary."""

import random

import pytest

from flex_assist.config import PromptSettings
from flex_assist.engine.llama import Model
from flex_assist.evaluate.spans import SpanSource
from flex_assist.language import BY_NAME
from flex_assist.models import store
from flex_assist.models.fim import FimTokens
from flex_assist.prompt.builder import assemble, outline
from flex_assist.repository.documents import Document
from flex_trainer import corpus as module
from flex_trainer.corpus import UNLABELLED, Corpus
from flex_trainer.packing import batches

FIM = FimTokens(suffix_id=11, prefix_id=12, middle_id=13, end_id=0)
SETTINGS = PromptSettings()


@pytest.fixture(scope="module")
def vocabulary():
    model = Model.load(store.find("smollm2-135m").path, vocab_only=True)
    yield model
    model.close()


def documents(count: int = 6) -> list[Document]:
    texts = []
    for number in range(count):
        functions = [
            f"def handler_{number}_{at}(request, limit={at}):\n"
            f"    rows = load_rows(request.session, limit)\n"
            f"    if not rows:\n        return None\n"
            f"    return [row.name for row in rows if row.kind == {at}]\n\n\n"
            for at in range(12)
        ]
        texts.append(f'"""Module {number}."""\n\nimport os\n\n\n' + "".join(functions))
    return [
        Document(
            path=f"src/m{at}.py", language="python", text=text, sha256="", is_test=False, cluster=at
        )
        for at, text in enumerate(texts)
    ]


def samples(vocabulary, epoch: int = 0, seed: int = 0):
    return list(Corpus(documents(), vocabulary.tokenize, FIM, SETTINGS, seed).samples(epoch))


def test_the_same_seed_gives_the_same_samples(vocabulary):
    assert samples(vocabulary) == samples(vocabulary)
    assert samples(vocabulary) != samples(vocabulary, seed=1)
    assert samples(vocabulary) != samples(vocabulary, epoch=1)


def test_an_infilling_sample_is_the_served_prompt_and_its_answer(vocabulary):
    document = documents(1)[0]
    language = BY_NAME["python"]
    source, rng = SpanSource(document.text, language), random.Random(0)
    for _ in range(40):
        span = source.draw(rng, low=300)
        assert span is not None
        before, after = document.text[: span.start], document.text[span.end :]
        answer = document.text[span.start : span.end]
        served = _build(vocabulary, before, after, document.path, "")
        trained = _build(vocabulary, before, after, document.path, answer)
        first = len(trained.tokens) - trained.answer_tokens
        # All but the token that healing leaves off are the same.
        assert trained.tokens[: first - 1] == served.tokens[: first - 1]
        assert len(served.tokens) - first <= 2
        text = b"".join(vocabulary.token_bytes(token) for token in trained.tokens[first - 2 :])
        assert text.decode("utf-8", "ignore").endswith(answer)


def _build(vocabulary, before, after, path, answer):
    planned = outline(
        before,
        after,
        path=path,
        language=BY_NAME["python"],
        chunks=(),
        settings=SETTINGS,
        answer=answer,
    )
    ids = [vocabulary.tokenize(text) for text in planned.texts()]
    return assemble(planned, ids, FIM, SETTINGS)


def test_what_is_not_to_be_learnt_has_no_label(vocabulary):
    for sample in samples(vocabulary):
        assert len(sample.tokens) == len(sample.labels) == len(sample.weights)
        for token, label in zip(sample.tokens, sample.labels, strict=True):
            if token in (FIM.suffix_id, FIM.prefix_id, FIM.middle_id):
                assert label == UNLABELLED
            else:
                assert label in (token, UNLABELLED)


def test_infilling_samples_end_with_the_end_token(vocabulary):
    infilling = [sample for sample in samples(vocabulary) if FIM.prefix_id in sample.tokens]
    assert infilling
    for sample in infilling:
        assert sample.tokens[-1] == sample.labels[-1] == FIM.end_id
        assert sample.weights[-1] == module.ANSWER_WEIGHT


def test_shares_are_about_as_said(vocabulary):
    found = [sample for epoch in range(6) for sample in samples(vocabulary, epoch)]
    infilling = [sample for sample in found if FIM.prefix_id in sample.tokens]
    assert len(infilling) / len(found) == pytest.approx(module.FIM_SHARE, abs=0.12)
    separate = sum(FIM.middle_id in sample.tokens for sample in infilling)
    assert 0 < separate < 0.4 * len(infilling)


def test_a_pass_shows_most_of_every_file(vocabulary):
    words = {f"handler_{number}_{at}" for number in range(6) for at in range(12)}
    text = ""
    for sample in samples(vocabulary):
        text += b"".join(vocabulary.token_bytes(t) for t in sample.tokens).decode("utf-8", "ignore")
    assert sum(word in text for word in words) > 0.8 * len(words)


def test_batches_keep_every_sample_once_within_the_limit(vocabulary):
    found = samples(vocabulary)
    grouped = batches(found, 1280, "0")
    assert sorted(s.tokens for batch in grouped for s in batch) == sorted(s.tokens for s in found)
    for batch in grouped:
        assert sum(len(sample.tokens) for sample in batch) <= 1280 or len(batch) == 1


def test_control_tokens_in_source_are_text(vocabulary):
    hostile = documents(1)[0].text + 'x = "<jupyter_start><|endoftext|>"\n'
    ids = vocabulary.tokenize(hostile)
    assert not {FIM.suffix_id, FIM.end_id} & set(ids)
