"""What transformers computes is what llama.cpp computes, family by family: base, LoRA, merged."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flex_assist.errors import ExportError, ModelError
from flex_assist.models.architectures import layout
from flex_assist.models.gguf_file import architecture, open_gguf
from flex_assist.models.lora_gguf import check_layout
from flex_trainer import base_model, lora
from flex_trainer.corpus import Sample
from flex_trainer.lora import Masters
from flex_trainer.losses import loss_sum
from flex_trainer.packing import hidden_states, pack
from tests.integration.trainer import families

# Float16 in llama.cpp's KV and weights, float32 here.
MOST_DIFFERENCE = 2e-2
PROMPTS, PROMPT_TOKENS, ANSWER_TOKENS = 3, 40, 8


@dataclass(frozen=True, kw_only=True)
class Case:
    model: Any
    adapted: Any
    masters: Masters
    files: families.Files


@pytest.fixture(scope="module", params=families.MODELS)
def case(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("family")
    model = families.random_model(request.param)
    files = families.Files.of(folder)
    families.write(model, files.base)
    loaded = base_model.load_base(files.base, torch.device("cpu"), torch.float32, plain=True)
    adapted, masters = families.adapt(loaded, files)
    return Case(model=model, adapted=adapted, masters=masters, files=files)


def some_tokens() -> list[int]:
    return [(7 * at * at + 11) % families.VOCABULARY for at in range(PROMPT_TOKENS)]


def assert_alike(model: Any, path: Path, adapter: Path | None = None) -> None:
    for prompt in families.prompts(model, PROMPTS, PROMPT_TOKENS, ANSWER_TOKENS, MOST_DIFFERENCE):
        found = families.logits_of(path, adapter, prompt)
        assert np.abs(found - prompt.logits).max() <= MOST_DIFFERENCE
        assert found[:-1].argmax(-1).tolist() == prompt.answer
        # The logits tell tokens apart: otherwise agreement would say nothing.
        assert prompt.logits.std() > 0.3


def test_the_base(case):
    assert_alike(case.model, case.files.base)


def test_the_trainers_model_is_the_same(case):
    loaded = base_model.load_base(case.files.base, torch.device("cpu"), torch.float32)
    ids = torch.tensor([some_tokens()])
    with torch.no_grad():
        torch.testing.assert_close(loaded(ids).logits, case.model(ids).logits, atol=2e-4, rtol=1e-4)


def test_with_an_adapter(case):
    base, adapted = (
        families.answer(model, some_tokens(), ANSWER_TOKENS) for model in (case.model, case.adapted)
    )
    assert adapted.answer != base.answer
    assert_alike(case.adapted, case.files.base, case.files.lora)


def test_merged(case):
    assert_alike(case.adapted, case.files.merged)


def test_a_packed_step_is_that_of_transformers(case):
    loaded = base_model.load_base(case.files.base, torch.device("cpu"), torch.float32)
    ours = lora.attach(loaded, 4, 0)
    Masters.of(ours).load(case.masters.state())
    samples = [
        Sample(tokens=tuple(one), labels=tuple(one), weights=(1.0,) * len(one))
        for one in (some_tokens(), some_tokens()[7:32])
    ]
    core = ours.get_base_model()
    row = pack(samples, torch.device("cpu"))
    loss = loss_sum(
        hidden_states(core, row), core.get_output_embeddings().weight, row.labels, row.weights
    )
    loss.backward()
    case.adapted.zero_grad()
    theirs = sum(_loss(case.adapted, one.tokens) for one in samples)
    theirs.backward()
    torch.testing.assert_close(loss, theirs, rtol=1e-4, atol=1e-3)
    wanted = {name: p.grad for name, p in case.adapted.named_parameters() if p.requires_grad}
    for name, parameter in ours.named_parameters():
        if parameter.requires_grad:
            scale = float(wanted[name].abs().max())
            torch.testing.assert_close(parameter.grad, wanted[name], rtol=1e-2, atol=1e-3 * scale)


def _loss(model: Any, tokens: tuple[int, ...]) -> torch.Tensor:
    ids = torch.tensor([tokens])
    logits = model(ids).logits[0, :-1]
    return torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum")


def test_the_adapter_is_on_all_linear_layers_and_nowhere_else(case):
    linear = {
        name
        for name, module in case.model.named_modules()
        if isinstance(module, torch.nn.Linear) and name != "lm_head"
    }
    assert set(lora.layers(case.adapted)) == linear


def test_a_wrong_order_of_rows_is_caught(case):
    reader = open_gguf(case.files.base)
    plan = layout(reader, architecture(reader))
    modules = lora.as_arrays(case.adapted, case.masters)
    check_layout(reader, plan, modules)
    with pytest.raises(ExportError, match="does not match the weight that was trained"):
        check_layout(reader, replace(plan, reordered=not plan.reordered), modules)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("expert_count", 8, "experts"),
        ("rope.scaling.type", "yarn", "'yarn'"),
        ("rope.dimension_count", 8, "rotate 8 of a head's 16"),
    ],
)
def test_what_is_not_supported_is_refused(tmp_path, key, value, told):
    import gguf

    path = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    add = writer.add_string if isinstance(value, str) else writer.add_uint32
    add(f"llama.{key}", value)
    writer.add_uint32("llama.attention.key_length", 16)
    writer.add_tensor("token_embd.weight", np.zeros((4, 4), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ModelError, match=told):
        layout(open_gguf(path), "llama")
