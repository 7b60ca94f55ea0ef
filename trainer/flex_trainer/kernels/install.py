"""Puts the kernels into a model of transformers."""

from torch import nn
from transformers import AttentionInterface, PreTrainedModel

from flex_trainer.kernels import attention
from flex_trainer.kernels.layers import GatedMlp, RmsNorm
from flex_trainer.kernels.liger import LigerGatedMlp, LigerRmsNorm

SILU = ("SiLUActivation", "SiLU")
AttentionInterface.register(attention.NAME, attention.packed_attention)


def install(model: PreTrainedModel, *, liger: bool = False) -> None:
    """Exchange attention, normalization and gated layers; names of parameters stay.

    Layers of another form than the ones known here are left as they are.

    Args:
        liger: Take Liger's kernels where it has them; see ``liger.usable``.
    """
    model.config._attn_implementation = attention.NAME
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            replacement = _replacement(child, liger)
            if replacement is not None:
                setattr(parent, name, replacement)


def _replacement(layer: nn.Module, liger: bool) -> nn.Module | None:
    kind = type(layer).__name__
    if kind in ("LlamaRMSNorm", "Qwen2RMSNorm", "Qwen3RMSNorm", "GraniteRMSNorm"):
        norm = LigerRmsNorm if liger else RmsNorm
        return norm(layer.weight, layer.variance_epsilon)  # type: ignore[arg-type]
    gated_kinds = ("LlamaMLP", "Qwen2MLP", "Qwen3MLP", "GraniteMLP")
    if kind in gated_kinds and type(layer.act_fn).__name__ in SILU:
        gated = LigerGatedMlp if liger else GatedMlp
        return gated(layer.gate_proj, layer.up_proj, layer.down_proj)  # type: ignore[arg-type]
    return None
