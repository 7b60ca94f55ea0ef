"""LoRA on every linear layer of attention and MLP, with float32 masters.

The adapter computes in the base's precision; the optimizer works on float32 copies, which are also
what is exported.
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from flex_assist.models.lora_gguf import LoraModule
from flex_trainer.fourier import Update
from flex_trainer.kernels import LoraLinear, Nf4Linear
from flex_trainer.recipe import ALPHA_PER_RANK, Recipe

ADAPTER = "default"


def attach(
    model: PreTrainedModel, rank: int, seed: int, alpha_per_rank: int = ALPHA_PER_RANK
) -> PeftModel:
    """Add a LoRA of ``rank`` to all linear layers but the output head. B starts at zero.

    Args:
        alpha_per_rank: What the update is multiplied by, LoRA's alpha / rank.
    """
    torch.manual_seed(seed)
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha_per_rank * rank,
        target_modules="all-linear",
        lora_dropout=0.0,
        bias="none",
        task_type="CAUSAL_LM",
    )
    config._register_custom_module({nn.Linear: LoraLinear})
    with warnings.catch_warnings():
        # PEFT asks transformers by a name that is going away.
        warnings.simplefilter("ignore", FutureWarning)
        adapted = get_peft_model(model, config, autocast_adapter_dtype=False)
    # PEFT takes the precision from each layer's weight, and packed bytes have none.
    for layer in layers(adapted).values():
        for part in (layer.lora_A, layer.lora_B):
            part.to(model.get_output_embeddings().weight.dtype)
    return adapted


def attach_as(model: PreTrainedModel, recipe: Recipe) -> PeftModel:
    """``attach``, with what a recipe says of rank, seed and alpha."""
    return attach(model, recipe.rank, recipe.seed, recipe.alpha_per_rank)


@contextlib.contextmanager
def attached(model: PreTrainedModel, recipe: Recipe) -> Iterator[PeftModel]:
    """``attach_as`` for a while; whatever happens, ``model`` is as before afterwards."""
    adapted = attach_as(model, recipe)
    try:
        yield adapted
    finally:
        adapted.unload()


def layers(model: nn.Module) -> dict[str, LoraLayer]:
    """The adapted modules by the base model's own path of each."""
    found = {}
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            found[name.removeprefix("base_model.model.")] = module
    return found


@dataclass(slots=True, kw_only=True)
class Masters:
    """Float32 copies of the trainable parameters, in a fixed order.

    Where the model computes in float32 the copies are the parameters themselves.
    """

    working: list[Tensor]
    masters: list[Tensor]
    names: list[str]
    index: dict[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, model: nn.Module) -> "Masters":
        """Make them for all parameters that take a gradient."""
        pairs = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        working: list[Tensor] = [p for _, p in pairs]
        masters = [
            p if p.dtype == torch.float32 else p.detach().float().requires_grad_() for p in working
        ]
        index = {id(p): at for at, p in enumerate(working)}
        return cls(working=working, masters=masters, names=[n for n, _ in pairs], index=index)

    def take_gradients(self) -> None:
        """Add the gradients of the working copies to those of the masters."""
        for working, master in zip(self.working, self.masters, strict=True):
            if working is master or working.grad is None:
                continue
            if master.grad is None:
                master.grad = working.grad.float()
            else:
                master.grad += working.grad
            working.grad = None

    @torch.no_grad()
    def publish(self) -> None:
        """Copy the masters' values to the working copies."""
        for working, master in zip(self.working, self.masters, strict=True):
            if working is not master:
                working.copy_(master)

    @torch.no_grad()
    def shrink(self, factor: float) -> None:
        """Multiply every module's update by ``factor``: a step back towards the base.

        Source: Wortsman et al., "Robust fine-tuning of zero-shot models", arXiv 2109.01903.
        """
        for name, master in zip(self.names, self.masters, strict=True):
            if ".lora_B." in name:
                master.mul_(factor)
        self.publish()

    def clear_gradients(self) -> None:
        """Forget all gradients."""
        for tensor in (*self.working, *self.masters):
            tensor.grad = None

    def master_of(self, parameter: Tensor) -> Tensor:
        """The master of a working copy."""
        return self.masters[self.index[id(parameter)]]

    def state(self) -> dict[str, Tensor]:
        """Masters by name."""
        pairs = zip(self.names, self.masters, strict=True)
        return {name: master.detach().cpu().contiguous() for name, master in pairs}

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take the values of ``state()``."""
        for name, master in zip(self.names, self.masters, strict=True):
            master.copy_(state[name])
        self.publish()


def updates(
    model: nn.Module,
    masters: Masters,
    orders_seed: int | None = None,
    factors: Mapping[str, Tensor] | None = None,
) -> list[Update]:
    """Each module's update over the masters, for the penalties.

    Args:
        orders_seed: For the control ``permuted``: seed of the rows' and columns' random orders.
        factors: For ``activation``: ``moments.input_factors``.
    """
    generator = torch.Generator().manual_seed(orders_seed or 0)
    found = []
    for name, layer in layers(model).items():
        a = masters.master_of(layer.lora_A[ADAPTER].weight)
        b = masters.master_of(layer.lora_B[ADAPTER].weight)
        orders = orders_seed is not None
        found.append(
            Update(
                a=a,
                b=b,
                scale=layer.scaling[ADAPTER],
                base_norm2=_norm2(layer.get_base_layer()),
                row_order=torch.randperm(b.shape[0], generator=generator) if orders else None,
                column_order=torch.randperm(a.shape[1], generator=generator) if orders else None,
                second_moment=factors[name] if factors else None,
            )
        )
    return found


def as_arrays(model: nn.Module, masters: Masters) -> dict[str, LoraModule]:
    """The trained update as numpy arrays, for the export."""
    found = {}
    for name, layer in layers(model).items():
        found[name] = LoraModule(
            module=name,
            a=masters.master_of(layer.lora_A[ADAPTER].weight).detach().cpu().numpy(),
            b=masters.master_of(layer.lora_B[ADAPTER].weight).detach().cpu().numpy(),
            scale=layer.scaling[ADAPTER],
            weight=_values(layer.get_base_layer()),
        )
    return found


def _norm2(layer: nn.Linear) -> Tensor:
    weight = layer.unpacked() if isinstance(layer, Nf4Linear) else layer.weight
    found = weight.detach().float().square().sum()
    return found.full_tensor() if isinstance(found, DTensor) else found


def _values(layer: nn.Linear) -> Callable[[], NDArray[np.float32]] | None:
    """Gives the weight as an array; None where it is not held as it was, or not the whole of it."""
    weight = layer.weight
    if isinstance(layer, Nf4Linear) or isinstance(weight, DTensor):
        return None
    return lambda: weight.detach().float().cpu().numpy()
