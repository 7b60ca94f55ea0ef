"""The wrapper of llama.cpp on the starter model."""

import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import gguf
import numpy as np
import pytest

from flex_assist.engine.context import Context
from flex_assist.engine.interrupt import Interrupt, Paused
from flex_assist.engine.llama import Adapter, Model
from flex_assist.errors import Cancelled, EngineError, ModelError
from flex_assist.models.quantized import write_model

TEXT = "def fibonacci(n):\n    if n < 2:\n        return n\n    return fibonacci(n - 1) + "


@pytest.fixture(scope="module")
def model(starter: Path) -> Iterator[Model]:
    loaded = Model.load(starter)
    yield loaded
    loaded.close()


@pytest.fixture
def open_context(model: Model) -> Iterator[Callable[..., Context]]:
    opened = []

    def make(*adapters: Adapter, batch_tokens: int = 512) -> Context:
        opened.append(Context(model, adapters, 512, 1, batch_tokens))
        return opened[-1]

    yield make
    for context in opened:
        context.close()


def greedy(context: Context, count: int) -> list[int]:
    """The likeliest tokens after what the context holds."""
    tokens = []
    for _ in range(count):
        tokens.append(int(np.argmax(context.logits())))
        context.append(tokens[-1])
    return tokens


def test_facts_of_the_starter(model: Model, starter: Path) -> None:
    facts = model.facts()
    assert (facts.architecture, facts.context_tokens, facts.vocabulary) == ("llama", 8192, 49152)
    assert facts.fim_ids is None
    assert facts.bos_id is None
    assert 2 in facts.end_ids
    assert facts.chat_template is not None
    only_words = Model.load(starter, vocab_only=True)
    assert only_words.facts() == facts
    only_words.close()
    with pytest.raises(EngineError, match="closed"):
        only_words.tokenize("x")


def test_control_tokens_in_a_text_are_text_unless_it_is_ours(model: Model) -> None:
    text = "<|im_start|>user\n<|im_end|>"
    assert {1, 2} <= set(model.tokenize(text, special=True))
    plain = model.tokenize(text)
    assert not {1, 2} & set(plain)
    assert b"".join(map(model.token_bytes, plain)).decode() == text
    assert model.token_bytes(1) == b""


@pytest.mark.parametrize("text", ["", "\0", "naïve €\r\n\t😀", "\ud800", " " * 500])
def test_tokens_spell_the_text(model: Model, text: str) -> None:
    spelled = b"".join(map(model.token_bytes, model.tokenize(text)))
    assert spelled == text.encode("utf-8", "replace")


def test_reusing_a_prefix_gives_the_same_tokens_as_a_fresh_context(
    model: Model, open_context: Callable[..., Context]
) -> None:
    tokens = model.tokenize(TEXT)
    used, fresh = open_context(), open_context()
    used.prefill(tokens)
    greedy(used, 5)
    shorter = tokens[:-4]
    # A fresh context in the same batches: cold and grown KV differ on quantized weights.
    fresh.prefill(tokens)
    fresh.keep_prefix(shorter)
    fresh.extend(shorter[-1:])
    assert used.prefill(shorter) == len(shorter) - 1
    assert used.tokens == tuple(shorter)
    assert np.array_equal(used.logits(), fresh.logits())
    cold = open_context()
    cold.prefill(shorter)
    assert greedy(used, 12) == greedy(cold, 12)


def test_logits_do_not_depend_on_what_was_there_before(
    model: Model, open_context: Callable[..., Context]
) -> None:
    tokens, other = model.tokenize(TEXT), model.tokenize("SELECT * FROM users WHERE")
    used, fresh = open_context(), open_context()
    used.prefill(other)
    assert used.prefill(tokens) == 0
    fresh.prefill(tokens)
    assert np.array_equal(used.logits(), fresh.logits())


def test_an_adapter_changes_the_answer_and_contexts_do_not_mix(
    model: Model, open_context: Callable[..., Context], adapter_a: Path, adapter_b: Path
) -> None:
    tokens = model.tokenize(TEXT)
    a, b = model.load_adapter(adapter_a), model.load_adapter(adapter_b)
    contexts = {"a": open_context(a), "b": open_context(b), "base": open_context()}
    answers = {}
    for name in ("a", "b", "base", "a", "b"):
        contexts[name].prefill(tokens)
        answers[name] = contexts[name].logits()
        fresh = open_context(*contexts[name].adapters)
        if name in ("a", "b") and len(answers) == 3:
            # The second visit decodes the last token alone: so must the fresh one.
            fresh.prefill(tokens)
        fresh.prefill(tokens)
        assert np.array_equal(answers[name], fresh.logits()), name
    assert not np.allclose(answers["a"], answers["base"], atol=0.1)
    assert not np.allclose(answers["a"], answers["b"], atol=0.1)


def test_two_adapters_are_the_sum_of_both(tiny) -> None:
    base, merged = Model.load(tiny.base()), Model.load(tiny.merged(1, 2))
    a, b = base.load_adapter(tiny.adapter(1)), base.load_adapter(tiny.adapter(2))
    logits = []
    for model, adapters in ((merged, ()), (base, (a, b)), (base, (b, a)), (base, (a,))):
        context = Context(model, adapters, 128, 1)
        context.prefill(model.tokenize(TEXT))
        logits.append(context.logits())
        context.close()
    for both in logits[1:3]:
        assert np.abs(both - logits[0]).max() < 1e-3
    assert np.abs(logits[3] - logits[0]).max() > 1.0
    base.close()
    merged.close()


def test_an_adapter_is_kept_once_and_read_again_when_its_file_changes(
    model: Model, make_adapter: Callable[..., Path]
) -> None:
    path = make_adapter("changing", 3)
    first = model.load_adapter(path)
    assert model.load_adapter(path) is first
    make_adapter("changing", 4)
    os.utime(path, ns=(1, 1))
    second = model.load_adapter(path)
    assert second is not first
    model.free_adapter(first)
    assert model.load_adapter(path) is second


def test_an_adapter_for_another_width_is_refused(
    model: Model, make_adapter: Callable[..., Path]
) -> None:
    with pytest.raises(ModelError, match="does not fit"):
        model.load_adapter(make_adapter("narrow", 5, width=64))


def test_files_that_are_no_model(starter: Path, adapter_a: Path, tmp_path: Path) -> None:
    whole = starter.read_bytes()
    for share in (0.0001, 0.5, 0.999):
        cut = tmp_path / f"cut-{share}.gguf"
        cut.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(ModelError, match="cut"):
            Model.load(cut)
    (tmp_path / "noise.gguf").write_bytes(b"GGUF\3\0\0\0" + os.urandom(4000))
    for path in (tmp_path / "none.gguf", tmp_path / "noise.gguf", adapter_a):
        with pytest.raises(ModelError, match=path.name):
            Model.load(path)


def test_damaged_metadata_is_an_error_and_not_a_crash(starter: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    with starter.open("rb") as file:
        head = bytearray(file.read(200_000))
    for number in range(20):
        damaged = bytearray(head)
        for _ in range(10):
            damaged[24 + int(random.integers(2000))] = int(random.integers(256))
        path = tmp_path / f"{number}.gguf"
        path.write_bytes(damaged)
        with pytest.raises(ModelError):
            Model.load(path, vocab_only=True)


def test_scores_equal_a_computation_token_by_token(
    model: Model, open_context: Callable[..., Context], adapter_a: Path
) -> None:
    tokens = model.tokenize(TEXT * 6)
    context = open_context(model.load_adapter(adapter_a))
    context.prefill(tokens[:7])
    scores = context.score(tokens)
    assert scores.dtype == np.float64
    assert len(scores) == len(tokens) - 1 > 128
    assert np.array_equal(context.score(tokens), scores)
    slow = open_context(*context.adapters)
    expected = []
    for token, following in itertools.pairwise(tokens):
        slow.append(token)
        logits = slow.logits().astype(np.float64)
        expected.append(np.log(np.exp(logits).sum()) - logits[following])
    # Rows decoded together and one by one are rounded differently on quantized weights.
    assert np.abs(scores - expected).mean() < 0.05
    assert abs(scores.mean() - np.mean(expected)) < 0.01


def test_haste_changes_no_number(model: Model) -> None:
    """Else what was computed ahead would not be what is computed when it is asked for."""
    tokens, found = model.tokenize(TEXT * 2), []
    for haste in (True, False):
        context = Context(model, [], 512, 4)
        context.hurry(haste)
        context.prefill(tokens[:40])
        rows = [context.logits().copy()]
        for token in tokens[40:46]:
            context.append(token)
            rows.append(context.logits().copy())
        context.hurry(True)
        context.append(tokens[46])
        found.append([*rows, context.logits().copy()])
        context.close()
    assert all(np.array_equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.parametrize("length", [2, 128, 129, 130, 257])
def test_scores_of_any_length(
    model: Model, open_context: Callable[..., Context], length: int
) -> None:
    tokens = (model.tokenize(TEXT) * 20)[:length]
    scores = open_context().score(tokens)
    assert scores.shape == (length - 1,)
    assert np.isfinite(scores).all()
    assert (scores >= 0).all()


@pytest.mark.parametrize("error", [Paused, Cancelled])
def test_an_interrupt_leaves_the_context_as_it_was(
    model: Model, open_context: Callable[..., Context], error: type[Exception]
) -> None:
    tokens = (model.tokenize(TEXT) * 20)[:140]
    context, fresh = open_context(), open_context()
    context.prefill(tokens[:40])
    interrupt = Interrupt()
    stop = interrupt.pause if error is Paused else interrupt.cancel
    timer = threading.Timer(0.03, stop)
    timer.start()
    with pytest.raises(error):
        context.extend(tokens[40:], interrupt)
    assert context.tokens == tuple(tokens[:40])
    with pytest.raises(EngineError, match="no logits"):
        context.logits()
    context.extend(tokens[40:])
    fresh.extend(tokens[:40])
    fresh.extend(tokens[40:])
    assert np.array_equal(context.logits(), fresh.logits())


def test_prompts_that_cannot_be_decoded(model: Model, open_context: Callable[..., Context]) -> None:
    context = open_context()
    for tokens, says in (([], "empty"), ([1] * 513, "context 512"), ([1, 49152], "49152")):
        with pytest.raises(EngineError, match=says):
            context.prefill(tokens)
    context.prefill(model.tokenize(TEXT))
    assert greedy(context, 2)


def test_nothing_is_written_to_the_standard_streams(
    starter: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    loaded = Model.load(starter)
    Context(loaded, (), 512, 1).close()
    loaded.close()
    (tmp_path / "bad.gguf").write_bytes(b"GGUF\3\0\0\0" + b"\1" * 100)
    with pytest.raises(ModelError):
        Model.load(tmp_path / "bad.gguf")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("character", ["a", "7", " ", "=", "_", "é", "ア・", "กิ", "1²"])
def test_a_long_text_without_a_break_does_not_end_the_process(
    cut_starter: Callable[[int], Path], tmp_path: Path, character: str
) -> None:
    """llama.cpp matches this vocabulary's words by a function that calls itself."""
    path = tmp_path / "words.gguf"
    write_model(cut_starter(1), path, metadata={"tokenizer.ggml.pre": "deepseek-llm"})
    program = (
        "import sys; from pathlib import Path; from flex_assist.engine.llama import Model;"
        "model = Model.load(Path(sys.argv[1]), vocab_only=True); text = sys.argv[2] * 200_000;"
        "ids = model.tokenize('x ' + text);"
        "assert b''.join(map(model.token_bytes, ids)).decode() == 'x ' + text"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path), character], check=False)
    assert done.returncode == 0


def test_a_control_token_is_not_cut(model: Model) -> None:
    text = "=" * 1022 + "<|im_end|>"
    assert model.tokenize(text, special=True)[-1] in model.end_ids


def test_only_long_runs_are_cut(model: Model) -> None:
    text = "x = '" + "a" * 1023 + "'\n" + TEXT * 40
    assert model.tokenize(text) == model._tokenized(text, False)


def test_a_vocabulary_without_words_is_not_cut(tmp_path: Path) -> None:
    """It puts a space before each text."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581", "a"]
    writer = gguf.GGUFWriter(tmp_path / "spm.gguf", "llama")
    for key in (
        "block_count", "context_length", "embedding_length", "feed_forward_length",
        "attention.head_count",
    ):  # fmt: skip
        writer.add_uint32(f"llama.{key}", 1)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-5)
    writer.add_string("tokenizer.ggml.model", "llama")
    writer.add_array("tokenizer.ggml.tokens", tokens)
    writer.add_array("tokenizer.ggml.scores", [0.0] * len(tokens))
    writer.add_array("tokenizer.ggml.token_type", [2, 3, 3, *([6] * 256), 1, 1])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    model = Model.load(tmp_path / "spm.gguf", vocab_only=True)
    text = "a" * 5000
    assert b"".join(map(model.token_bytes, model.tokenize(text))).decode() == " " + text
    model.close()
