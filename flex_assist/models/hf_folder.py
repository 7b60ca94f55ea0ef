"""A Hugging Face folder as a GGUF file, one tensor at a time; nothing of the folder is run."""

import json
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType

from flex_assist.errors import ModelError
from flex_assist.files import write_atomically
from flex_assist.models.architectures import Layout
from flex_assist.models.hf_tokenizer import (
    PRE_TOKENIZERS,
    Encode,
    Tokenizer,
    disagreement,
    read_tokenizer,
    reference,
)
from flex_assist.models.safetensors_folder import StoredTensor, open_folder

# Keys of config.json that change what is computed, with the values that are as usual.
USUAL = {
    "hidden_act": ("silu",), "rope_scaling": (None,), "attention_bias": (False,),
    "mlp_bias": (False,), "pretraining_tp": (1,),
}  # fmt: skip
LLAMA = "llama"
# What some folders hold, though it follows from the configuration.
COMPUTED = "rotary_emb.inv_freq"
STORED = {"BF16": GGMLQuantizationType.BF16, "F16": GGMLQuantizationType.F16}
# Makes what turns text into the token ids of a GGUF file. The engine's work, handed in.
Reader = Callable[[Path], Encode]


def convert(folder: Path, target: Path, encoder: Reader) -> None:
    """Write the model of ``folder`` to ``target``, atomically, once its token ids are right.

    Raises:
        MissingExtraError: The package ``tokenizers`` is not installed.
        ModelError: The family, a setting or the tokenizer is not supported, or a file is damaged.
    """
    config = _config(folder)
    stored = open_folder(folder)
    tensors = {name: one for name, one in stored.items() if not name.endswith(COMPUTED)}
    if "model.embed_tokens.weight" not in tensors:
        raise ModelError(f"{str(folder)!r} has no embedding; it is not a whole model")
    tokenizer = read_tokenizer(folder, tensors["model.embed_tokens.weight"].shape[0])
    original = reference(folder)
    pre = _pre_tokenizer(config, tokenizer, original, encoder)

    def fill(part: Path) -> None:
        _write(part, config, tokenizer, pre, tensors)
        if text := disagreement(original, encoder(part)):
            raise ModelError(f"the written file reads {text!r} in other tokens; nothing is kept")

    write_atomically(target, fill)


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text("utf-8"))
        family = config["model_type"]
        if family != LLAMA:
            raise ModelError(
                f"folders of the family {family!r} cannot be converted yet, those of {LLAMA!r} can;"
                " take a GGUF file of this model"
            )
        for key, usual in USUAL.items():
            if config.get(key, usual[0]) not in usual:
                raise ModelError(
                    f"{key} = {config[key]!r} in {str(path)!r} is not supported; take a GGUF file"
                )
        scaling = (config.get("rope_parameters") or {}).get("rope_type", "default")
        if scaling != "default":
            raise ModelError(f"rope_type = {scaling!r} in {str(path)!r} is not supported")
        return dict(config)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{str(path)!r} cannot be read: {error!r}") from error


def _pre_tokenizer(
    config: dict[str, Any], tokenizer: Tokenizer, original: Encode, encoder: Reader
) -> str:
    with TemporaryDirectory() as place:
        for pre in PRE_TOKENIZERS:
            path = Path(place) / f"{pre}.gguf"
            _write(path, config, tokenizer, pre, {})
            # Names that this llama.cpp does not know are refused by it.
            with suppress(ModelError):
                if disagreement(original, encoder(path)) is None:
                    return pre
    raise ModelError(
        "llama.cpp knows no way to cut text that gives this tokenizer's tokens; "
        "take another model, or a GGUF file of this one"
    )


def _write(
    part: Path,
    config: dict[str, Any],
    tokenizer: Tokenizer,
    pre: str,
    tensors: dict[str, StoredTensor],
) -> None:
    layout = _layout(config)
    names = {name: _gguf_name(layout, name) for name in tensors}
    with closing(gguf.GGUFWriter(part, LLAMA)) as writer:
        _describe(writer, config, layout, len(tokenizer.tokens))
        tokenizer.write(writer, pre)
        for name, tensor in tensors.items():
            kind = _kind(tensor)
            width = 4 if kind == GGMLQuantizationType.F32 else 2
            size = int(np.prod(tensor.shape)) * width
            stored = np.dtype(np.float32 if width == 4 else np.float16)
            writer.add_tensor_info(names[name], tensor.shape, stored, size, kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for name, tensor in tensors.items():
            kept = tensor.stored() if _kind(tensor) == STORED.get(tensor.kind) else tensor.values()
            writer.write_tensor_data(np.ascontiguousarray(layout.to_gguf(names[name], kept)))


def _kind(tensor: StoredTensor) -> GGMLQuantizationType:
    """Matrices as they are; norms, which are computed with, in float32."""
    float32 = GGMLQuantizationType.F32
    return STORED.get(tensor.kind, float32) if len(tensor.shape) > 1 else float32


def _gguf_name(layout: Layout, name: str) -> str:
    stem, _, ending = name.rpartition(".")
    return f"{layout.gguf_name(stem)}.{ending}"


def _layout(config: dict[str, Any]) -> Layout:
    heads = int(config["num_attention_heads"])
    return Layout(
        architecture=LLAMA,
        blocks=int(config["num_hidden_layers"]),
        heads=(heads, int(config.get("num_key_value_heads") or heads)),
        reordered=True,
    )


def _describe(
    writer: gguf.GGUFWriter, config: dict[str, Any], layout: Layout, vocabulary: int
) -> None:
    width, heads = int(config["hidden_size"]), layout.heads
    head_width = int(config.get("head_dim") or width // heads[0])
    rope = config.get("rope_parameters") or {}
    writer.add_context_length(int(config["max_position_embeddings"]))
    writer.add_embedding_length(width)
    writer.add_block_count(layout.blocks)
    writer.add_feed_forward_length(int(config["intermediate_size"]))
    writer.add_head_count(heads[0])
    writer.add_head_count_kv(heads[1])
    writer.add_key_length(head_width)
    writer.add_value_length(head_width)
    writer.add_rope_dimension_count(head_width)
    writer.add_rope_freq_base(float(rope.get("rope_theta") or config.get("rope_theta") or 10000.0))
    writer.add_layer_norm_rms_eps(float(config["rms_norm_eps"]))
    writer.add_vocab_size(vocabulary)
