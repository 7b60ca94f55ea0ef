"""The base model as the trainer computes with it: a GGUF file, dequantized into transformers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from gguf import GGUFReader
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from flex_assist.errors import ModelError
from flex_assist.models.architectures import Layout, layout
from flex_assist.models.gguf_file import architecture, field, open_gguf, tensor_values
from flex_trainer import kernels
from flex_trainer.kernels import Nf4Linear, liger

WEIGHT = ".weight"
# Where layers are packed: not the head, which the loss reads as a matrix.
PACKED = "model.layers."


def load_base(
    path: Path,
    device: torch.device,
    dtype: torch.dtype,
    *,
    nf4: bool = False,
    plain: bool = False,
) -> LlamaForCausalLM:
    """Build the model that a GGUF file holds, frozen, on ``device``.

    Args:
        nf4: Hold the linear layers in 4 bits; needs bitsandbytes.
        plain: As transformers has it, without the trainer's kernels.

    Raises:
        ModelError: The file is damaged or its family is not supported.
    """
    reader = open_gguf(path)
    name = architecture(reader)
    plan = layout(reader, name)
    config = _config(reader, name)
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    _fill(model, _tensors(reader, plan, model, dtype), device, nf4)
    if not plain:
        kernels.install(model, liger=liger.usable(device))
    model.requires_grad_(False)
    model.config.use_cache = False
    return model.to(device).eval()


def _config(reader: GGUFReader, name: str) -> LlamaConfig:
    def value(key: str, default: Any = None) -> Any:
        return field(reader, f"{name}.{key}", default)

    heads = int(value("attention.head_count"))
    tensors = {tensor.name for tensor in reader.tensors}
    embedding = next(t for t in reader.tensors if t.name == "token_embd.weight")
    return LlamaConfig(
        vocab_size=int(embedding.shape[1]),
        hidden_size=int(value("embedding_length")),
        intermediate_size=int(value("feed_forward_length")),
        num_hidden_layers=int(value("block_count")),
        num_attention_heads=heads,
        num_key_value_heads=int(value("attention.head_count_kv", heads)),
        head_dim=int(value("attention.key_length", int(value("embedding_length")) // heads)),
        rms_norm_eps=float(value("attention.layer_norm_rms_epsilon")),
        rope_parameters={
            "rope_type": "default",
            "rope_theta": float(value("rope.freq_base", 10000.0)),
        },
        max_position_embeddings=int(value("context_length")),
        tie_word_embeddings="output.weight" not in tensors,
    )


def _tensors(
    reader: GGUFReader, plan: Layout, model: nn.Module, dtype: torch.dtype
) -> Iterator[tuple[str, torch.Tensor]]:
    """Every parameter of ``model`` with its name, in the trainer's layout; one at a time."""
    stored = {tensor.name: tensor for tensor in reader.tensors}
    for name, parameter in list(model.named_parameters()):
        source = plan.gguf_name(name.removesuffix(WEIGHT)) + WEIGHT
        if source not in stored:
            raise ModelError(f"the model file has no tensor {source!r}; it is damaged")
        array = plan.from_gguf(source, tensor_values(stored[source]))
        # One tensor at a time in float32; what the file itself holds is not to be written to.
        values = torch.from_numpy(array if array.flags.writeable else array.copy())
        if values.shape != parameter.shape:
            raise ModelError(
                f"{source!r} has shape {tuple(values.shape)}, expected {tuple(parameter.shape)}"
            )
        yield name, values.to(dtype)


def _fill(
    model: LlamaForCausalLM,
    tensors: Iterator[tuple[str, torch.Tensor]],
    device: torch.device,
    nf4: bool,
) -> None:
    for name, values in tensors:
        path, _, leaf = name.rpartition(".")
        layer, there = model.get_submodule(path), values.to(device)
        if nf4 and name.startswith(PACKED) and type(layer) is nn.Linear and leaf == "weight":
            model.set_submodule(path, Nf4Linear(there))
        else:
            setattr(layer, leaf, nn.Parameter(there, requires_grad=False))
    model.tie_weights()
    # Buffers are computed, not stored: they were made without values.
    model.model.rotary_emb = type(model.model.rotary_emb)(model.config)
