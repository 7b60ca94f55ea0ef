"""Frozen layers in 4 bits: what they hold, and that LoRA learns over them as over dense ones."""

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from flex_trainer import kernels, lora
from flex_trainer.kernels import Nf4Linear, recompute


def layer(rows: int = 96, columns: int = 64) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(columns, rows, bias=False).requires_grad_(False)


def packed(model: nn.Module) -> nn.Module:
    """With 4 bits in all layers but the head."""
    for name, one in list(model.named_modules()):
        if type(one) is nn.Linear and "layers" in name:
            model.set_submodule(name, Nf4Linear(one.weight.detach()))
    return model


def dense(model: nn.Module) -> nn.Module:
    """The same numbers, held as they are computed with."""
    for name, one in list(model.named_modules()):
        if isinstance(one, Nf4Linear):
            plain = nn.Linear(one.in_features, one.out_features, bias=False)
            plain.weight = nn.Parameter(one.unpacked(), requires_grad=False)
            model.set_submodule(name, plain)
    return model


def llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=40, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, use_cache=False,
    )  # fmt: skip
    return LlamaForCausalLM(config).requires_grad_(False).eval()


def test_half_a_byte_for_each_weight_and_close_to_it():
    plain = layer()
    small = Nf4Linear(plain.weight)
    assert small.weight.nbytes == plain.weight.numel() / 2
    error = (small.unpacked() - plain.weight).norm() / plain.weight.norm()
    assert 0 < error < 0.12
    x = torch.randn(3, 64)
    assert torch.allclose(small(x), x @ small.unpacked().T)


def test_packed_weights_are_computed_with_in_the_precision_they_came_in():
    small = Nf4Linear(layer().weight.bfloat16())
    assert small.unpacked().dtype == torch.bfloat16


@pytest.mark.parametrize("recomputed", [False, True])
def test_an_adapter_learns_over_packed_layers_as_over_dense_ones(recomputed):
    found = []
    for form in (packed, lambda model: dense(packed(model))):
        model = form(llama())
        kernels.install(model)
        adapted = lora.attach(model, 4, 0)
        recompute.recompute_layers(model.model.layers, recomputed)
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.data = 0.1 * torch.ones_like(parameter)
        tokens = torch.arange(24)[None] % 40
        adapted(tokens).logits.square().mean().backward()
        found.append({n: p.grad for n, p in adapted.named_parameters() if p.requires_grad})
    ours, theirs = found
    assert ours.keys() == theirs.keys()
    for name, gradient in ours.items():
        assert gradient.norm() > 0
        assert torch.allclose(gradient, theirs[name], atol=1e-6, rtol=1e-4), name


def test_no_unpacked_weight_is_kept_for_the_gradient():
    model = packed(llama())
    kernels.install(model)
    adapted = lora.attach(model, 4, 0)
    kept: set[torch.Size] = set()

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.add(tensor.shape)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        adapted(torch.arange(24)[None])
    assert not kept & {torch.Size((128, 64)), torch.Size((64, 128)), torch.Size((64, 64))}


def test_the_adapter_has_the_precision_of_what_is_not_packed():
    model = packed(llama().bfloat16())
    adapted = lora.attach(model, 4, 0)
    kinds = {p.dtype for p in adapted.parameters() if p.requires_grad}
    assert kinds == {torch.bfloat16}


def test_the_export_does_not_take_packed_weights_for_the_base():
    model = packed(llama())
    adapted = lora.attach(model, 4, 0)
    modules = lora.as_arrays(adapted, lora.Masters.of(adapted))
    assert modules
    assert all(module.weight is None for module in modules.values())
