"""Samples of training are the prompts of serving, by the starter's own vocabulary."""

import random
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from flex_assist.config import PromptSettings
from flex_assist.engine.llama import Model
from flex_assist.evaluate.spans import SpanSource
from flex_assist.language import BY_NAME, by_path
from flex_assist.models import store
from flex_assist.models.fim import FimTokens
from flex_assist.prompt.builder import assemble, outline
from flex_assist.repository.documents import Document
from flex_trainer import corpus as module
from flex_trainer.corpus import UNLABELLED, Corpus, Sample
from flex_trainer.dialogues import Dialogues
from flex_trainer.instructions import Instructions
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
    shares = []
    for seed in range(5):
        tokens = (token for sample in samples(vocabulary, seed=seed) for token in sample.tokens)
        text = b"".join(map(vocabulary.token_bytes, tokens)).decode("utf-8", "ignore")
        shares.append(sum(word in text for word in words) / len(words))
    assert sum(shares) / len(shares) > 0.75


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


def questions(vocabulary, found: list[Document], seed: int = 0) -> Instructions:
    def encode(pieces):
        return [vocabulary.tokenize(piece.text, piece.special) for piece in pieces]

    dialogues = Dialogues(vocabulary.facts(), encode)
    return Instructions(found, (), dialogues, most_tokens=module.PLAIN_TOKENS, seed=seed)


def commented() -> list[Document]:
    comment = '    """Handle a request."""\n    rows ='
    return [replace(one, text=one.text.replace("    rows =", comment)) for one in documents()]


def with_questions(vocabulary, share: float) -> list[Sample]:
    found = commented()
    corpus = Corpus(
        found, vocabulary.tokenize, FIM, SETTINGS, 0,
        instructions=questions(vocabulary, found).samples, instruction_share=share,
    )  # fmt: skip
    return list(corpus.samples(0))


def is_question(sample: Sample) -> bool:
    # The starter's token that opens a turn.
    return sample.tokens[0] == 1


def test_questions_take_their_share_of_the_tokens(vocabulary):
    plain = with_questions(vocabulary, 0.0)
    assert not any(map(is_question, plain))
    for share in (0.05, 0.1):
        found = with_questions(vocabulary, share)
        tokens = sum(len(one.tokens) for one in found if is_question(one))
        all_tokens = sum(len(one.tokens) for one in found)
        assert tokens / all_tokens == pytest.approx(share, abs=0.02)
        # The others are those that are there without any.
        assert [one for one in found if not is_question(one)] == plain
    # All over the pass, not at its end.
    at = [number for number, one in enumerate(found) if is_question(one)]
    assert at[0] < len(found) / 4
    assert at[-1] > len(found) * 3 / 4


def test_no_sample_is_longer_than_said(vocabulary):
    limit = module.most_tokens(SETTINGS)
    assert max(len(one.tokens) for one in with_questions(vocabulary, 0.1)) <= limit


def source_texts() -> list[Path]:
    return sorted((Path(__file__).parents[2] / "data" / "syntax").iterdir())


@given(
    st.sampled_from(source_texts()), st.text(max_size=12), st.integers(0, 3000), st.integers(0, 99)
)
def test_the_answer_decodes_to_what_stood_there(vocabulary, path, letters, at, seed):
    language = by_path(path)
    text = path.read_text(encoding="utf-8")
    text = text[: at % len(text)] + letters + text[at % len(text) :]
    # The starter has no token for some bytes of rare letters: those it cannot spell.
    assume(b"".join(map(vocabulary.token_bytes, vocabulary.tokenize(text))) == text.encode())
    span = SpanSource(text, language).draw(random.Random(seed))
    before, after, answer = text[: span.start], text[span.end :], text[span.start : span.end]
    planned = outline(
        before, after, path=path.name, language=language, chunks=(), settings=SETTINGS,
        answer=answer,
    )  # fmt: skip
    ids = [vocabulary.tokenize(one) for one in planned.texts()]
    prompt = assemble(planned, ids, FIM, SETTINGS)
    # The answer's first token may begin in the text before it.
    spelled = b"".join(map(vocabulary.token_bytes, prompt.tokens[-prompt.answer_tokens - 1 :]))
    assert spelled.endswith(answer.encode()) or prompt.answer_tokens == 0
    assert before + answer + after == text
    ids[-1] = [*ids[-2], FIM.middle_id, *vocabulary.tokenize(answer)]
    apart = assemble(planned, ids, FIM, SETTINGS).tokens
    answered = apart[apart.index(FIM.middle_id) + 1 :]
    assert b"".join(map(vocabulary.token_bytes, answered)) == answer.encode()


@given(
    st.lists(st.text(max_size=300), min_size=1, max_size=4), st.sampled_from(source_texts()),
    st.integers(32, 200), st.integers(0, 80), st.integers(0, 120), st.integers(0, 9),
)  # fmt: skip
def test_any_text_fits_its_budget(texts, path, prefix, suffix, retrieval, seed):
    """With a token a letter nothing is as short as it usually is."""
    settings = PromptSettings(
        prefix_tokens=prefix, suffix_tokens=suffix, retrieval_tokens=retrieval
    )
    language = by_path(path)
    found = [
        Document(
            path=f"{'é' * 90}/{number}{path.suffix}", language=language.name, text=text, sha256="",
            is_test=False, cluster=number,
        )
        for number, text in enumerate([*texts, path.read_text(encoding="utf-8")])
    ]  # fmt: skip
    corpus = Corpus(found, lambda text: [*text.encode()], FIM, settings, seed)
    with patch.multiple(module, PLAIN_TOKENS=64, PATH_TOKENS=8, ANSWER_TOKENS=16):
        limit = module.most_tokens(settings)
        assert limit < 500
        for sample in corpus.samples(0):
            assert 0 < len(sample.tokens) <= limit
            assert len(sample.tokens) == len(sample.labels) == len(sample.weights)
