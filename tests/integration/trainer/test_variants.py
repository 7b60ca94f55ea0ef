"""What files say of one model of a family: a stretched context, weights that others have not."""

import numpy as np
import pytest
import torch

from flex_assist.errors import ModelError
from flex_trainer import base_model
from tests.integration.trainer import families

MOST_DIFFERENCE = 2e-2
FACTORS = torch.tensor([1.0, 1.0, 1.5, 2.0, 4.0, 8.0, 8.0, 8.0])


def load(path):
    return base_model.load_base(path, torch.device("cpu"), torch.float32)


@pytest.mark.parametrize(
    "others",
    [
        pytest.param({"rope__freqs__weight": FACTORS}, id="factors, as Llama 3 has them"),
        pytest.param({"llama__rope__scale_linear": 4.0}, id="linear, by its older name"),
        pytest.param({"llama__rope__scaling__factor": 4.0}, id="linear, not named"),
    ],
)
def test_a_stretched_context_is_that_of_llama_cpp(tmp_path, others):
    model, path = families.random_model("llama"), tmp_path / "model.gguf"
    families.write(model, path, **others)
    ours = load(path)
    for prompt in families.prompts(ours, 2, 40, 4, MOST_DIFFERENCE):
        found = families.logits_of(path, None, prompt)
        assert np.abs(found - prompt.logits).max() <= MOST_DIFFERENCE
        unstretched = families.answer(model, prompt.tokens, 0).logits
        assert np.abs(found[:1] - unstretched).max() > 5 * MOST_DIFFERENCE


def test_weights_that_the_family_has_not_are_refused(tmp_path):
    path = tmp_path / "model.gguf"
    bias = {"model__layers__1__mlp__up_proj__bias": torch.ones(96)}
    families.write(families.random_model("qwen2"), path, **bias)
    with pytest.raises(ModelError, match=r"qwen2 models have not, such as 'blk\.1\.ffn_up\.bias'"):
        load(path)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"query_pre_attn_scalar": 64}, "query_pre_attn_scalar = 64 cannot be converted; 32 can"),
        ({"layer_types": [families.LOCAL, families.WHOLE]}, "layer_types"),
        ({"rope_parameters": {families.LOCAL: {"rope_theta": 1.0}}}, "local layers = 1.0"),
    ],
)
def test_a_gemma_that_llama_cpp_would_read_as_another_is_not_written(tmp_path, change, told):
    model = families.random_model("gemma3")
    for key, value in change.items():
        setattr(model.config, key, value)
    with pytest.raises(ModelError, match=told):
        families.write(model, tmp_path / "model.gguf")
    assert not list(tmp_path.iterdir())
