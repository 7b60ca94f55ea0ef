"""Hugging Face folders: the written file has the same token ids and the same logits."""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config

from flex_assist.engine.llama import Model
from flex_assist.errors import ModelError
from flex_assist.locations import locate
from flex_assist.models import installed, store
from flex_assist.models.gguf_file import field, open_gguf
from flex_assist.models.hf_folder import convert
from flex_assist.models.hf_tokenizer import PROBES
from flex_assist.models.safetensors_files import open_folder
from flex_trainer.base_model import load_base

CORE = Path(__file__).resolve().parents[3] / "flex_assist"
FIM = ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"]
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def write_tokenizer(folder: Path, pattern: str = QWEN2) -> int:
    """A small byte-level BPE, trained on some of this project's code."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=600, initial_alphabet=alphabet, show_progress=False,
        special_tokens=["<|endoftext|>", *FIM],
    )  # fmt: skip
    tokenizer.train_from_iterator([(CORE / "config.py").read_text(), *PROBES], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"eos_token": {"content": "<|endoftext|>"}, "chat_template": "{{ messages }}"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return int(tokenizer.get_vocab_size())


@pytest.fixture(scope="module", params=["llama-bfloat16", "llama-float32", "qwen2-bfloat16"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("folder") / "tiny"
    path.mkdir()
    words = write_tokenizer(path)
    torch.manual_seed(0)
    family, _, kind = request.param.partition("-")
    config = (LlamaConfig if family == "llama" else Qwen2Config)(
        vocab_size=words + 8, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=False,
        max_position_embeddings=128, initializer_range=0.2,
        rope_parameters={"rope_type": "default", "rope_theta": 5000.0},
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config).to(getattr(torch, kind))
    model.save_pretrained(path, max_shard_size="60KB")
    assert (path / "model.safetensors.index.json").is_file()
    return path


def encoder(path: Path) -> Callable[[str], list[int]]:
    return Model.load(path, vocab_only=True).tokenize


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def test_a_folder_is_added_and_is_the_same_model(folder: Path) -> None:
    locations = locate()
    made = installed.add_folder(folder, "tiny", locations, encoder)
    assert store.find("tiny", locations).path == made.path
    assert made.path.stat().st_mode & 0o777 == 0o600
    original = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ours = load_base(made.path, torch.device("cpu"), torch.float32, plain=True)
    ids = torch.arange(0, 60).reshape(2, 30) * 7 % original.config.vocab_size
    with torch.no_grad():
        difference = (original(ids).logits - ours(ids).logits).abs().max()
    assert float(difference) <= 1e-4
    reader = open_gguf(made.path)
    model = Model.load(made.path)
    facts = model.facts()
    model.close()
    tokens = field(reader, "tokenizer.ggml.tokens")
    assert facts.fim_ids == (tokens.index(FIM[0]), tokens.index(FIM[1]), tokens.index(FIM[2]))
    assert facts.end_ids[0] == tokens.index("<|endoftext|>")
    assert facts.chat_template == "{{ messages }}"
    assert field(reader, "tokenizer.ggml.pre") == "qwen2"
    theirs = Tokenizer.from_file(str(folder / "tokenizer.json"))
    for text in ("x == 1000 and y != 'ü'\n\t\treturn", *PROBES):
        assert encoder(made.path)(text) == theirs.encode(text).ids


def test_a_way_to_cut_text_that_is_not_known_is_refused(copy: Path, tmp_path: Path) -> None:
    write_tokenizer(copy, pattern=r"[\s\S]{1,7}")
    with pytest.raises(ModelError, match="no way to cut text"):
        convert(copy, tmp_path / "out" / "a.gguf", encoder)
    assert not list((tmp_path / "out").glob("*")) or not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "mamba"}, "kind 'mamba' cannot be converted"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, "yarn"),
        ({"pretraining_tp": 2}, "pretraining_tp = 2"),
        ({"hidden_act": "gelu"}, "hidden_act = 'gelu'"),
    ],
)
def test_what_is_not_proven_is_refused(
    copy: Path, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(ModelError, match=message):
        convert(copy, tmp_path / "a.gguf", encoder)


def test_an_index_does_not_lead_out_of_the_folder(copy: Path) -> None:
    index = copy / "model.safetensors.index.json"
    for name in ("../x.safetensors", "/etc/passwd", ".."):
        index.write_text(json.dumps({"weight_map": {"a": name}}))
        with pytest.raises(ModelError, match="not a file of its folder"):
            open_folder(copy)


def test_weights_that_may_run_code_are_refused(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(ModelError, match="may run code"):
        open_folder(tmp_path)


@pytest.mark.parametrize(
    "record",
    [
        {"dtype": "F32", "shape": [4], "data_offsets": [0, 999]},
        {"dtype": "F32", "shape": [400], "data_offsets": [0, 1600]},
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, -4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [-8, -4]},
        {"dtype": "I64", "shape": [1], "data_offsets": [0, 8]},
        {"shape": [1]},
        7,
    ],
)
def test_safetensors_that_lead_out_of_the_file(tmp_path: Path, record: object) -> None:
    header = json.dumps({"a": record}).encode()
    data = struct.pack("<Q", len(header)) + header + np.zeros(4, np.float32).tobytes()
    (tmp_path / "model.safetensors").write_bytes(data)
    with pytest.raises(ModelError, match="damaged or cut short"):
        open_folder(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", 1 << 60) + header)
    with pytest.raises(ModelError, match="claims"):
        open_folder(tmp_path)
