"""Hugging Face folders that were written to break the reader: errors that say what to do."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import pre_tokenizers

from flex_assist.errors import ModelError
from flex_assist.models.hf_folder import convert
from flex_assist.models.hf_tokenizer import read_tokenizer, reference
from flex_assist.models.hf_weights import layout_of, metadata

WORDS = 260
CONFIG = {
    "model_type": "llama", "num_hidden_layers": 1, "hidden_size": 64, "intermediate_size": 64,
    "max_position_embeddings": 128, "num_attention_heads": 2, "rms_norm_eps": 1e-5,
    "rope_theta": 5000,
}  # fmt: skip
GEMMA = {"model_type": "gemma3_text", "sliding_window": 8}


def test_a_sound_config() -> None:
    assert metadata(CONFIG)["llama.rope.freq_base"] == 5000.0
    linear = {"type": "linear", "factor": 2, "rope_theta": 7.0}
    found = metadata({**CONFIG, "rope_scaling": linear})
    assert (found["llama.rope.scaling.factor"], found["llama.rope.freq_base"]) == (2.0, 7.0)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"rope_theta": "x"}, "rope_theta = 'x'"),
        ({"rope_theta": float("inf")}, "rope_theta = inf"),
        ({"rope_scaling": [1]}, "rope_scaling"),
        ({"rope_scaling": {"full_attention": "x"}}, "full_attention"),
        ({"rope_scaling": {"type": "linear"}}, "factor = None"),
        ({"rope_scaling": {"type": "linear", "factor": "x"}}, "factor = 'x'"),
        ({"max_position_embeddings": 10**30}, "max_position_embeddings"),
        ({"max_position_embeddings": 1e30}, "max_position_embeddings"),
        ({"max_position_embeddings": 1 << 31}, "max_position_embeddings"),
        ({"rms_norm_eps": 1e300}, "rms_norm_eps"),
        ({"rms_norm_eps": 10**400}, "rms_norm_eps"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps"),
        ({**GEMMA, "layer_types": 5}, "layer_types"),
        ({**GEMMA, "rope_parameters": {"sliding_attention": [1]}}, "sliding_attention"),
    ],
)
def test_configs_that_are_refused(change: dict[str, Any], key: str) -> None:
    with pytest.raises(ModelError, match=f"config says {key}.* it is damaged"):
        metadata({**CONFIG, **change})


@pytest.mark.timeout(5)
@pytest.mark.parametrize("key", ["num_hidden_layers", "num_attention_heads", "num_key_value_heads"])
def test_a_model_without_end(key: str) -> None:
    with pytest.raises(ModelError, match=key):
        layout_of({**CONFIG, key: 1 << 30})


def tokenizer() -> dict[str, Any]:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    end = {"id": 256, "content": "<end>", "special": True, "single_word": False,
           "lstrip": False, "rstrip": False, "normalized": False}  # fmt: skip
    vocabulary = {text: number for number, text in enumerate(alphabet)}
    return {
        "version": "1.0",
        "added_tokens": [end],
        "pre_tokenizer": {
            "type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True
        },
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
    }  # fmt: skip


def test_a_sound_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer()))
    read = read_tokenizer(tmp_path, WORDS)
    assert read.tokens[256] == "<end>"
    assert [read.tokens[one] for one in reference(tmp_path)("ab")] == ["a", "b"]


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("pre_tokenizer", {"type": "Evil"}),
        ("model", {"merges": ["zz yy"]}),
        ("model", {"vocab": {"!": -1}}),
        ("added_tokens", {"content": 5}),
        ("added_tokens", {"content": "\ud800"}),
        ("added_tokens", {"id": -1}),
    ],
)
def test_tokenizers_that_are_refused(tmp_path: Path, part: str, change: dict[str, Any]) -> None:
    model = tokenizer()
    (model[part][0] if part == "added_tokens" else model[part]).update(change)
    (tmp_path / "tokenizer.json").write_text(json.dumps(model))
    with pytest.raises(ModelError, match="take a GGUF file of this model"):
        reference(tmp_path)


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("model", {"vocab": {"!": -1}}),
        ("added_tokens", {"content": 5}),
        ("added_tokens", {"id": -1}),
    ],
)
def test_tokens_without_a_place(tmp_path: Path, part: str, change: dict[str, Any]) -> None:
    model = tokenizer()
    (model[part][0] if part == "added_tokens" else model[part]).update(change)
    (tmp_path / "tokenizer.json").write_text(json.dumps(model))
    with pytest.raises(ModelError, match="it has the token"):
        read_tokenizer(tmp_path, WORDS)


def test_an_embedding_that_is_no_matrix(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    flat = {"model.embed_tokens.weight": np.zeros(WORDS * 64, np.float32)}
    save_file(flat, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match="one that is no matrix"):
        convert(tmp_path, tmp_path / "out.gguf", lambda _: list)
