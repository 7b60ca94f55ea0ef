"""Hand-written gradients against automatic ones, and documents that do not see each other."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from flex_trainer import kernels, lora
from flex_trainer.corpus import Sample
from flex_trainer.kernels import attention
from flex_trainer.kernels.layers import GatedMlp, RmsNorm
from flex_trainer.packing import pack

VOCABULARY = 40
LENGTHS = (7, 1, 12, 5)


def llama(heads: int = 4, key_heads: int = 2, bias: bool = False) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=heads, num_key_value_heads=key_heads, attention_bias=bias,
        mlp_bias=bias, attn_implementation="eager", use_cache=False,
    )  # fmt: skip
    model = LlamaForCausalLM(config).double().requires_grad_(False).eval()
    for parameter in model.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def documents(lengths: tuple[int, ...] = LENGTHS) -> list[Sample]:
    generator = torch.Generator().manual_seed(1)
    found = []
    for length in lengths:
        ids = tuple(torch.randint(0, VOCABULARY, (length,), generator=generator).tolist())
        found.append(Sample(tokens=ids, labels=ids, weights=(1.0,) * length))
    return found


def adapted(model: nn.Module, ours: bool) -> nn.Module:
    """With a LoRA that is not zero: the trainer's, or PEFT's own."""
    torch.manual_seed(3)
    if ours:
        found = lora.attach(model, 4, 3)
    else:
        config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
        found = get_peft_model(model, config, autocast_adapter_dtype=False)
    generator = torch.Generator().manual_seed(5)
    for parameter in found.parameters():
        if parameter.requires_grad:
            values = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.data = 0.2 * values
    return found


def gradients(model: nn.Module, outputs: torch.Tensor) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    outer = torch.randn(outputs.shape, generator=generator, dtype=outputs.dtype)
    outputs.backward(outer)
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


@pytest.mark.parametrize(("heads", "key_heads"), [(4, 4), (4, 2), (4, 1)])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("block", [4, 512])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_whole_model_equals_transformers_and_peft(monkeypatch, heads, key_heads, bias, block):
    """Packed documents through the kernels, one by one through the plain model: the same."""
    monkeypatch.setattr(attention, "BLOCK", block)
    plain = adapted(llama(heads, key_heads, bias), ours=False)
    fast = llama(heads, key_heads, bias)
    kernels.install(fast)
    fast = adapted(fast, ours=True)
    row = pack(documents(), torch.device("cpu"))
    together = fast.get_base_model().model(
        input_ids=row.ids, position_ids=row.positions, lengths=row.lengths
    ).last_hidden_state  # fmt: skip
    alone = torch.cat(
        [
            plain.get_base_model().model(input_ids=ids).last_hidden_state
            for ids in row.ids.split(list(row.lengths), dim=1)
        ],
        dim=1,
    )
    # transformers computes norms and softmax in float32 whatever comes in.
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-5)
    ours, theirs = gradients(fast, together), gradients(plain, alone)
    assert ours.keys() == theirs.keys()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-3, atol=1e-4)


def test_every_known_layer_is_exchanged_and_keeps_its_parameters():
    model = llama()
    names = {name for name, _ in model.named_parameters()}
    kernels.install(model)
    assert {name for name, _ in model.named_parameters()} == names
    kinds = [type(module) for module in model.modules()]
    assert kinds.count(RmsNorm) == 5
    assert kinds.count(GatedMlp) == 2


def test_other_documents_change_nothing():
    """To the bit: what stands in a row does not reach its neighbours."""
    model = llama()
    kernels.install(model)
    found = []
    for other in (3, 9):
        samples = documents()
        samples[0] = Sample(tokens=(other,) * 7, labels=(other,) * 7, weights=(1.0,) * 7)
        row = pack(samples, torch.device("cpu"))
        out = model.model(input_ids=row.ids, position_ids=row.positions, lengths=row.lengths)
        found.append(out.last_hidden_state[:, 7:])
    assert torch.equal(found[0], found[1])


def test_each_kernel_passes_the_numeric_gradient_check():
    generator = torch.Generator().manual_seed(0)

    def values(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    def attend(query, key, value):
        return attention.packed_attention(nn.Identity(), query, key, value, None, 0.4, (3, 2))[0]

    heads = (values(1, 4, 5, 3), values(1, 2, 5, 3), values(1, 2, 5, 3))
    assert torch.autograd.gradcheck(attend, heads)
    gate = kernels.layers._Gate.apply
    assert torch.autograd.gradcheck(gate, (values(4, 3), values(4, 3)))


def test_the_fused_form_for_other_devices_is_the_same():
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(4, 25, 8, generator=generator)
    key, value = torch.randn(2, 2, 25, 8, generator=generator)
    plain = attention._PlainAttention.apply(query, key, value, 0.3, LENGTHS, None)
    fused = attention._fused(query, key, value, 0.3, LENGTHS)
    torch.testing.assert_close(plain, fused, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("window", [1, 3, 8, 100])
@pytest.mark.parametrize("block", [4, 512])
def test_a_window_hides_what_lies_further_back(window, block, monkeypatch):
    monkeypatch.setattr(attention, "BLOCK", block)
    generator = torch.Generator().manual_seed(0)
    shapes = ((4, 25, 8), (2, 25, 8), (2, 25, 8))
    inputs = [torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]
    outer = torch.randn(25, 4, 8, generator=generator, dtype=torch.float64)
    found = []
    for form in (attention._PlainAttention.apply, attention._fused, windowed):
        own = [one.clone().requires_grad_() for one in inputs]
        out = form(*own, 0.3, LENGTHS, window)
        out.backward(outer)
        found.append((out, *(one.grad for one in own)))
    for form in found[:2]:
        for ours, theirs in zip(form, found[2], strict=True):
            torch.testing.assert_close(ours, theirs)


def windowed(query, key, value, scaling, lengths, window):
    """All products at once, masked."""
    of = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    at = torch.arange(query.shape[1])
    behind = at[:, None] - at
    seen = (of[:, None] == of) & (behind >= 0) & (behind < window)
    keys, values = (one.repeat_interleave(2, dim=0) for one in (key, value))
    score = (query @ keys.mT * scaling).masked_fill(~seen, float("-inf"))
    return (score.softmax(-1) @ values).transpose(0, 1)


def test_lengths_that_do_not_add_up_are_refused():
    some = torch.zeros(1, 2, 5, 4)
    with pytest.raises(ValueError, match="5"):
        attention.packed_attention(nn.Identity(), some, some, some, None, 1.0, (3, 1))
