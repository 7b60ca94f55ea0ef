"""From a model in transformers' names to a GGUF file: what of it is not the tokenizer.

``config`` is what a model's ``config.json`` says. Weights come one at a time, so that memory stays
at one tensor. What is written is read back by ``architectures`` and by the trainer's ``families``.
"""

from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType
from numpy.typing import NDArray

from flex_assist.errors import ModelError
from flex_assist.files import write_atomically
from flex_assist.models.architectures import FAMILIES, MOST_BLOCKS, MOST_HEADS, Layout

# ``model_type`` of a config to ``general.architecture``.
ARCHITECTURES = {name: name for name in FAMILIES} | {"gemma3_text": "gemma3"}
FILE_TYPES = {
    GGMLQuantizationType.F32: gguf.LlamaFileType.ALL_F32,
    GGMLQuantizationType.F16: gguf.LlamaFileType.MOSTLY_F16,
    GGMLQuantizationType.BF16: gguf.LlamaFileType.MOSTLY_BF16,
}
LARGEST_HALF, LARGEST = 65504.0, float(np.finfo(np.float32).max)
# What llama.cpp keeps as a signed number of 32 bits.
MOST_WHOLE = (1 << 31) - 1
# Key of a GGUF file, without the architecture's name, to the key of a config.
WHOLE = {
    "block_count": "num_hidden_layers",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "context_length": "max_position_embeddings",
    "attention.head_count": "num_attention_heads",
}
GRANITE = {
    "attention.scale": "attention_multiplier",
    "embedding_scale": "embedding_multiplier",
    "residual_scale": "residual_multiplier",
    "logit_scale": "logits_scaling",
}
# What llama.cpp assumes of gemma3: each sixth layer sees all, the others a window.
GEMMA_KINDS, GEMMA_PATTERN = ("full_attention", "sliding_attention"), 6
GEMMA_LOCAL_BASE = 10000.0
Weight = Callable[[], NDArray[np.float32]]
# Key to a whole number, a real number, a text, or a list of them.
Metadata = Mapping[str, Any]


def architecture_of(config: Mapping[str, Any]) -> str:
    """The family of a model.

    Raises:
        ModelError: It is none of ours.
    """
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise ModelError(f"models of the kind {kind!r} cannot be converted; supported: {known}")
    return ARCHITECTURES[kind]


def layout_of(config: Mapping[str, Any]) -> Layout:
    """How its weights are laid out.

    Raises:
        ModelError: The family is not supported, or a figure is missing.
    """
    name = architecture_of(config)
    heads = _whole(config, "num_attention_heads", most=MOST_HEADS)
    return Layout(
        architecture=name,
        blocks=_whole(config, "num_hidden_layers", most=MOST_BLOCKS),
        heads=(heads, _whole(config, "num_key_value_heads", heads, most=MOST_HEADS)),
        reordered=FAMILIES[name].reordered,
        norm_offset=FAMILIES[name].norm_offset,
    )


def metadata(config: Mapping[str, Any]) -> dict[str, int | float | str]:
    """What a GGUF file says of the model, by whole keys.

    Raises:
        ModelError: A figure is missing, or the model has parts that are not supported.
    """
    name = architecture_of(config)
    _refuse(config)
    heads = _whole(config, "num_attention_heads")
    found: dict[str, int | float | str] = {key: _whole(config, own) for key, own in WHOLE.items()}
    found["attention.head_count_kv"] = _whole(config, "num_key_value_heads", heads)
    width = _whole(config, "hidden_size")
    found["attention.key_length"] = _whole(config, "head_dim", width // heads)
    found["attention.value_length"] = found["attention.key_length"]
    found["rope.dimension_count"] = found["attention.key_length"]
    if name == "starcoder2":
        found["attention.layer_norm_epsilon"] = _real(config, "norm_epsilon")
    else:
        found["attention.layer_norm_rms_epsilon"] = _real(config, "rms_norm_eps")
    found |= _rope(config)
    if name == "granite":
        found |= {key: _real(config, own) for key, own in GRANITE.items()}
    if name == "gemma3":
        found["attention.sliding_window"] = _whole(config, "sliding_window")
    return {f"{name}.{key}": value for key, value in found.items()}


def write_gguf(
    target: Path,
    config: Mapping[str, Any],
    weights: Mapping[str, tuple[tuple[int, ...], Weight]],
    kind: GGMLQuantizationType,
    extra: Callable[[gguf.GGUFWriter], None],
) -> None:
    """Write a model, atomically.

    Args:
        weights: Transformers' name of each parameter to its shape, rows first, and its values.
        kind: F32, F16 or BF16; vectors are F32.
        extra: Adds what is not of the network: tokenizer, chat template, names.

    Raises:
        ModelError: A weight has no place in the family, or is too large for ``kind``.
    """
    plan = layout_of(config)
    known = metadata(config)
    named = {_tensor_name(plan, name): weight for name, weight in weights.items()}

    def fill(part: Path) -> None:
        with closing(gguf.GGUFWriter(part, plan.architecture)) as writer:
            writer.add_uint32("general.file_type", int(FILE_TYPES[kind]))
            for key, value in known.items():
                _add(writer, key, value)
            extra(writer)
            for name, (shape, _) in named.items():
                own = kind if len(shape) > 1 else GGMLQuantizationType.F32
                form = np.dtype(np.float32 if own == GGMLQuantizationType.F32 else np.float16)
                size = int(np.prod(shape)) * form.itemsize
                writer.add_tensor_info(name, shape, form, size, own)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            for name, (shape, values) in named.items():
                rows = plan.to_gguf(name, _checked(name, shape, values(), kind))
                own = kind if len(shape) > 1 else GGMLQuantizationType.F32
                writer.write_tensor_data(gguf.quants.quantize(np.ascontiguousarray(rows), own))

    write_atomically(target, fill)


def _tensor_name(plan: Layout, parameter: str) -> str:
    module, _, leaf = parameter.rpartition(".")
    return f"{plan.gguf_name(module)}.{leaf}"


def _checked(
    name: str, shape: tuple[int, ...], values: NDArray[np.float32], kind: GGMLQuantizationType
) -> NDArray[np.float32]:
    if values.shape != shape:
        raise ModelError(f"the weight {name!r} has shape {values.shape}, expected {shape}")
    largest = max(float(values.max(initial=0)), -float(values.min(initial=0)))
    limit = LARGEST_HALF if kind == GGMLQuantizationType.F16 else LARGEST
    # Not so for what is no number, either.
    if not largest <= limit:
        raise ModelError(
            f"the weight {name!r} is too large for {kind.name}, or no number; take the model in "
            "another precision"
        )
    return values


def _add(writer: gguf.GGUFWriter, key: str, value: int | float | str) -> None:
    if isinstance(value, str):
        writer.add_string(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    else:
        writer.add_float32(key, value)


def _rope(config: Mapping[str, Any]) -> dict[str, int | float | str]:
    given = _table(config, "rope_parameters") or _table(config, "rope_scaling")
    # Where kinds of layers differ, gemma3's: its local base is the one llama.cpp assumes.
    own = _table(given, "full_attention") if "full_attention" in given else given
    base = _real({"rope_theta": 10000.0, **config, **own}, "rope_theta")
    found: dict[str, int | float | str] = {"rope.freq_base": base}
    kind = own.get("rope_type", own.get("type", "default"))
    if kind == "linear":
        found |= {"rope.scaling.type": "linear", "rope.scaling.factor": _real(own, "factor")}
    elif kind != "default":
        raise ModelError(
            f"models whose context is stretched by {kind!r} cannot be converted; take one without"
        )
    return found


def _refuse(config: Mapping[str, Any]) -> None:
    if config.get("num_local_experts") or config.get("num_experts"):
        raise ModelError("models with experts cannot be converted; take a dense one")
    for key in ("final_logit_softcapping", "attn_logit_softcapping"):
        if config.get(key):
            raise ModelError(f"models with {key} cannot be converted; take another")
    if architecture_of(config) == "gemma3":
        _refuse_other_gemma(config)


def _refuse_other_gemma(config: Mapping[str, Any]) -> None:
    """llama.cpp takes these as given; the file has no place for them."""
    kinds = config.get("layer_types") or []
    if not isinstance(kinds, list):
        raise ModelError(
            f"the model's config says layer_types = {kinds!r}; it is damaged: fetch it again"
        )
    local = _table(_table(config, "rope_parameters"), "sliding_attention")
    given = {
        "query_pre_attn_scalar": (config.get("query_pre_attn_scalar"), config.get("head_dim")),
        "layer_types": (
            kinds,
            [GEMMA_KINDS[bool((at + 1) % GEMMA_PATTERN)] for at in range(len(kinds))],
        ),
        "the base of local layers": (
            local.get("rope_theta", config.get("rope_local_base_freq", GEMMA_LOCAL_BASE)),
            GEMMA_LOCAL_BASE,
        ),
    }
    for key, (value, usual) in given.items():
        if value != usual:
            raise ModelError(
                f"a gemma3 model with {key} = {value!r} cannot be converted; {usual!r} can"
            )


def _table(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = config.get(key) or {}
    if not isinstance(value, dict):
        raise ModelError(
            f"the model's config says {key} = {value!r}; it is damaged: fetch it again"
        )
    return value


def _whole(
    config: Mapping[str, Any], key: str, default: int | None = None, most: int = MOST_WHOLE
) -> int:
    value = config.get(key)
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise ModelError(
            f"the model's config says {key} = {value!r}; it is damaged: fetch it again"
        )
    return value


def _real(config: Mapping[str, Any], key: str) -> float:
    value = config.get(key)
    real = isinstance(value, int | float) and not isinstance(value, bool)
    # Not so for what is no number, either.
    if value is None or not real or not -LARGEST <= value <= LARGEST:
        raise ModelError(
            f"the model's config says {key} = {value!r}; it is damaged: fetch it again"
        )
    return float(value)
