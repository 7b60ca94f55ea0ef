"""The base model as the trainer computes with it: a GGUF file, dequantized into transformers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from gguf import GGUFReader
from torch import nn
from transformers import PreTrainedModel

from flex_assist.errors import ModelError
from flex_assist.models.architectures import Layout, layout
from flex_assist.models.gguf_file import architecture, open_gguf, tensor_values
from flex_trainer import families, kernels
from flex_trainer.kernels import Nf4Linear, liger

# Where layers are packed: not the head, which the loss reads as a matrix.
PACKED = "model.layers."


def load_base(
    path: Path,
    device: torch.device,
    dtype: torch.dtype,
    *,
    nf4: bool = False,
    plain: bool = False,
) -> PreTrainedModel:
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
    with torch.device("meta"):
        model: Any = families.build(reader, name)
    _fill(model, _tensors(reader, plan, model, dtype), device, nf4)
    families.restore_buffers(model, reader)
    if not plain:
        kernels.install(model, liger=liger.usable(device))
    model.requires_grad_(False)
    model.config.use_cache = False
    ready: PreTrainedModel = model.to(device).eval()
    return ready


def _tensors(
    reader: GGUFReader, plan: Layout, model: nn.Module, dtype: torch.dtype
) -> Iterator[tuple[str, torch.Tensor]]:
    """Every parameter of ``model`` with its name, in the trainer's layout; one at a time.

    Raises:
        ModelError: One is missing or of another shape, or the file holds what ``model`` has not:
            it would compute something else than llama.cpp.
    """
    stored = {tensor.name: tensor for tensor in reader.tensors}
    unread = set(stored) - {families.ROPE_FACTORS}
    for name, parameter in list(model.named_parameters()):
        module, _, leaf = name.rpartition(".")
        source = f"{plan.gguf_name(module)}.{leaf}"
        if source not in stored:
            raise ModelError(f"the model file has no tensor {source!r}; it is damaged")
        array = plan.from_gguf(source, tensor_values(stored[source]))
        # One tensor at a time in float32; what the file itself holds is not to be written to.
        values = torch.from_numpy(array if array.flags.writeable else array.copy())
        if values.shape != parameter.shape:
            raise ModelError(
                f"{source!r} has shape {tuple(values.shape)}, expected {tuple(parameter.shape)}"
            )
        unread.discard(source)
        yield name, values.to(dtype)
    if unread:
        raise ModelError(
            f"the model file has weights that {plan.architecture} models have not, such as "
            f"{min(unread)!r}; it cannot be adapted"
        )


def _fill(
    model: Any,
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
