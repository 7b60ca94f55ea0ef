"""Model families as transformers computes them, by what a GGUF file says of the model."""

from collections.abc import Callable
from typing import Any

import torch
from gguf import GGUFReader
from torch import Tensor, nn
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    Starcoder2Config,
    Starcoder2ForCausalLM,
)

from flex_assist.errors import ModelError
from flex_assist.models.gguf_file import field, tensor_values

# Factors of the rotary frequencies, where a file has them.
ROPE_FACTORS = "rope_freqs.weight"
# llama.cpp's own of gemma3, for files that do not say them.
LOCAL_BASE, PATTERN = 10000.0, 6


class _Facts:
    """The metadata of one model, without the architecture's prefix."""

    def __init__(self, reader: GGUFReader, architecture: str) -> None:
        self._reader, self._architecture = reader, architecture
        self.tensors = {tensor.name: tensor for tensor in reader.tensors}

    def get(self, key: str, default: Any = None) -> Any:
        return field(self._reader, f"{self._architecture}.{key}", default)

    def whole(self, key: str, default: int | None = None) -> int:
        return int(self._number(key, default))

    def real(self, key: str, default: float | None = None) -> float:
        return float(self._number(key, default))

    def _number(self, key: str, default: float | None) -> float:
        value = self.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ModelError(
                f"the model file says {self._architecture}.{key} = {value!r}; it is damaged or not "
                "supported"
            )
        return value


def build(reader: GGUFReader, architecture: str) -> PreTrainedModel:
    """The model of a GGUF file, on the device in force, without its weights.

    Raises:
        ModelError: A figure is missing.
    """
    facts = _Facts(reader, architecture)
    kind, own = _FAMILIES[architecture]
    return kind(own(facts, _common(facts)))


def restore_buffers(model: Any, reader: GGUFReader) -> None:
    """Compute what is not stored: the model was made without values."""
    core = model.model
    core.rotary_emb = type(core.rotary_emb)(model.config)
    factors = next((one for one in reader.tensors if one.name == ROPE_FACTORS), None)
    if factors is not None:
        core.rotary_emb.inv_freq /= torch.from_numpy(tensor_values(factors).copy())
    embedding = core.embed_tokens
    scale = getattr(embedding, "scalar_embed_scale", None)
    if scale is not None:
        embedding.embed_scale = nn.Buffer(torch.tensor(scale), persistent=False)


def logit_factor(model: Any) -> float:
    """What the head's products are multiplied by to give logits."""
    return 1.0 / float(getattr(model.config, "logits_scaling", 1.0))


def scaled(model: Any, hidden: Tensor) -> Tensor:
    """Last hidden states whose products with the head are logits."""
    factor = logit_factor(model)
    return hidden if factor == 1.0 else hidden * factor


def _common(facts: _Facts) -> dict[str, Any]:
    """What all families have, by the names of transformers."""
    heads, width = facts.whole("attention.head_count"), facts.whole("embedding_length")
    embedding = facts.tensors.get("token_embd.weight")
    if embedding is None:
        raise ModelError("the model file has no tensor 'token_embd.weight'; it is damaged")
    return {
        "vocab_size": int(embedding.shape[1]),
        "hidden_size": width,
        "intermediate_size": facts.whole("feed_forward_length"),
        "num_hidden_layers": facts.whole("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": facts.whole("attention.head_count_kv", heads),
        "head_dim": facts.whole("attention.key_length", width // heads),
        "max_position_embeddings": facts.whole("context_length"),
        "tie_word_embeddings": "output.weight" not in facts.tensors,
        "rope_parameters": _rope(facts),
        # Ids that transformers would check against the vocabulary; nothing here needs them.
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }


def _rope(facts: _Facts) -> dict[str, Any]:
    found = {"rope_type": "default", "rope_theta": facts.real("rope.freq_base", 10000.0)}
    # As llama.cpp reads it: linear where no kind is named, the factor by its older name too.
    factor = facts.real("rope.scaling.factor", facts.real("rope.scale_linear", 0.0))
    if factor and facts.get("rope.scaling.type", "linear") == "linear":
        found |= {"rope_type": "linear", "factor": factor}
    return found


def _biases(facts: _Facts) -> dict[str, bool]:
    """Which layers of a family that leaves it open have biases; Granite Code's all have."""
    return {
        "attention_bias": "blk.0.attn_q.bias" in facts.tensors,
        "mlp_bias": "blk.0.ffn_up.bias" in facts.tensors,
    }


def _rms(facts: _Facts) -> float:
    return facts.real("attention.layer_norm_rms_epsilon")


def _llama(facts: _Facts, common: dict[str, Any]) -> PreTrainedConfig:
    return LlamaConfig(**common, **_biases(facts), rms_norm_eps=_rms(facts))


def _qwen2(facts: _Facts, common: dict[str, Any]) -> PreTrainedConfig:
    return Qwen2Config(**common, rms_norm_eps=_rms(facts), use_sliding_window=False)


def _qwen3(facts: _Facts, common: dict[str, Any]) -> PreTrainedConfig:
    return Qwen3Config(**common, rms_norm_eps=_rms(facts), use_sliding_window=False)


def _starcoder2(facts: _Facts, common: dict[str, Any]) -> PreTrainedConfig:
    # llama.cpp attends to everything here, and so do we: the windows are thousands of tokens long.
    return Starcoder2Config(
        **common,
        norm_epsilon=facts.real("attention.layer_norm_epsilon"),
        sliding_window=None,
        use_bias=True,
    )


def _granite(facts: _Facts, common: dict[str, Any]) -> PreTrainedConfig:
    return GraniteConfig(
        **common,
        **_biases(facts),
        rms_norm_eps=_rms(facts),
        attention_multiplier=facts.real("attention.scale"),
        embedding_multiplier=facts.real("embedding_scale", 1.0),
        residual_multiplier=facts.real("residual_scale", 1.0),
        logits_scaling=facts.real("logit_scale", 1.0),
    )


def _gemma3(facts: _Facts, common: dict[str, Any]) -> PreTrainedConfig:
    pattern = facts.whole("attention.sliding_window_pattern", PATTERN)
    blocks = common["num_hidden_layers"]
    kinds = ("full_attention", "sliding_attention")
    local = {"rope_type": "default", "rope_theta": facts.real("rope.freq_base_swa", LOCAL_BASE)}
    common = {
        **common,
        "rope_parameters": {kinds[0]: common["rope_parameters"], kinds[1]: local},
    }
    return Gemma3TextConfig(
        **common,
        rms_norm_eps=_rms(facts),
        query_pre_attn_scalar=common["head_dim"],
        sliding_window=facts.whole("attention.sliding_window"),
        layer_types=[kinds[bool((at + 1) % pattern)] for at in range(blocks)],
    )


_Build = Callable[[_Facts, dict[str, Any]], PreTrainedConfig]
_FAMILIES: dict[str, tuple[Callable[[Any], PreTrainedModel], _Build]] = {
    "llama": (LlamaForCausalLM, _llama),
    "qwen2": (Qwen2ForCausalLM, _qwen2),
    "qwen3": (Qwen3ForCausalLM, _qwen3),
    "starcoder2": (Starcoder2ForCausalLM, _starcoder2),
    "granite": (GraniteForCausalLM, _granite),
    "gemma3": (Gemma3ForCausalLM, _gemma3),
}
