"""A Hugging Face folder as a GGUF file, one tensor at a time; nothing of the folder is run."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gguf
from gguf import GGMLQuantizationType

from flex_assist.errors import ModelError
from flex_assist.files import write_atomically
from flex_assist.models.hf_tokenizer import (
    PRE_TOKENIZERS,
    Encode,
    Tokenizer,
    disagreement,
    read_tokenizer,
    reference,
)
from flex_assist.models.hf_weights import architecture_of, write_gguf
from flex_assist.models.safetensors_files import StoredTensor, open_folder
from flex_assist.models.untrusted import read_table

# Keys of config.json that change what is computed, with the values that are as usual.
USUAL = {"pretraining_tp": (1,)}
# The activation of a family's feed-forward layers, as llama.cpp computes it.
ACTIVATIONS = {"starcoder2": "gelu_pytorch_tanh", "gemma3": "gelu_pytorch_tanh"}
# What some folders hold, though it follows from the configuration.
COMPUTED = "rotary_emb.inv_freq"
KINDS = {
    "F32": GGMLQuantizationType.F32,
    "F16": GGMLQuantizationType.F16,
    "BF16": GGMLQuantizationType.BF16,
}
EMBEDDING = "model.embed_tokens.weight"
# Makes what turns text into the token ids of a GGUF file. The engine's work, handed in.
Reader = Callable[[Path], Encode]


def convert(folder: Path, target: Path, encoder: Reader) -> str:
    """Write the model of ``folder`` to ``target``, atomically, once its token ids are right.

    Gives the family.

    Raises:
        MissingExtraError: The package ``tokenizers`` is not installed.
        ModelError: The family, a setting or the tokenizer is not supported, or a file is damaged.
    """
    config = _config(folder)
    stored = open_folder(folder)
    tensors = {name: one for name, one in stored.items() if not name.endswith(COMPUTED)}
    if EMBEDDING not in tensors or len(tensors[EMBEDDING].shape) != 2:
        raise ModelError(
            f"{str(folder)!r} has no embedding, or one that is no matrix: it is not a whole model; "
            "fetch it again"
        )
    tokenizer = read_tokenizer(folder, tensors[EMBEDDING].shape[0])
    original = reference(folder)
    pre = _pre_tokenizer(config, tokenizer, original, encoder)

    def fill(part: Path) -> None:
        _write(part, config, tokenizer, pre, tensors)
        if text := disagreement(original, encoder(part)):
            raise ModelError(f"the written file reads {text!r} in other tokens; nothing is kept")

    write_atomically(target, fill)
    return architecture_of(config)


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if (folder / "adapter_config.json").exists():
        raise ModelError(
            f"{str(folder)!r} is an adapter and no model; try `flex-assist adapters import`"
        )
    if not path.exists():
        raise ModelError(
            f"{str(folder)!r} has no 'config.json': it is no folder of a Hugging Face model; give "
            "one that has it, with its safetensors and its tokenizer.json"
        )
    try:
        config = read_table(path)
        family = architecture_of(config)
        usual = USUAL | {"hidden_act": (ACTIVATIONS.get(family, "silu"),)}
        for key, values in usual.items():
            if config.get(key, values[0]) not in values:
                raise ModelError(
                    f"{key} = {config[key]!r} in {str(path)!r} is not supported; take a GGUF file"
                )
        return config
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{str(path)!r} cannot be read ({error}); fetch it again") from error


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
    kind = KINDS[tensors[EMBEDDING].kind] if tensors else KINDS["F16"]
    weights = {name: (tensor.shape, tensor.values) for name, tensor in tensors.items()}

    def describe(writer: gguf.GGUFWriter) -> None:
        writer.add_vocab_size(len(tokenizer.tokens))
        tokenizer.write(writer, pre)

    write_gguf(part, config, weights, kind, describe)
