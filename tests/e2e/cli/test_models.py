"""A model of one's own, from `models add` to a completion, in processes of their own."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

PROGRAM = str(Path(sys.executable).parent / "flex-assist")
CORE = Path(__file__).resolve().parents[3] / "flex_assist"
CONFIG = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5, "hidden_act": "silu", "tie_word_embeddings": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def one_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEX_ASSIST_HOME", str(home))
    monkeypatch.setenv("FLEX_ASSIST_MODEL_BASE", "mine.v1")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, *arguments], capture_output=True, text=True, timeout=240, check=False
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face folder with a small tokenizer and random weights."""
    path: Path = tmp_path_factory.mktemp("folder") / "mine.v1"
    path.mkdir()
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=500, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
        special_tokens=["<|endoftext|>", "<fim_prefix>", "<fim_suffix>", "<fim_middle>"],
    )  # fmt: skip
    tokenizer.train_from_iterator([Path(__file__).read_text()], trainer)
    tokenizer.save(str(path / "tokenizer.json"))
    (path / "tokenizer_config.json").write_text('{"eos_token": "<|endoftext|>"}')
    (path / "config.json").write_text(json.dumps(CONFIG))
    words, width, inner = tokenizer.get_vocab_size(), CONFIG["hidden_size"], 96
    shapes = {"embed_tokens": (words, width), "norm": (width,)}
    for part, shape in (("self_attn.q_proj", (width, width)), ("self_attn.k_proj", (32, width)),
                        ("self_attn.v_proj", (32, width)), ("self_attn.o_proj", (width, width)),
                        ("mlp.gate_proj", (inner, width)), ("mlp.up_proj", (inner, width)),
                        ("mlp.down_proj", (width, inner)), ("input_layernorm", (width,)),
                        ("post_attention_layernorm", (width,))):  # fmt: skip
        shapes[f"layers.0.{part}"] = shape
    random = np.random.default_rng(0)
    values = {
        f"model.{name}.weight": random.normal(size=shape).astype(np.float16) / 8
        for name, shape in shapes.items()
    }
    save_file(values, path / "model.safetensors")
    return path


def test_a_folder_is_added_used_and_refused_when_it_changed(folder: Path, tmp_path: Path) -> None:
    code = tmp_path / "a.py"
    code.write_text("def add(a, b):\n    return a + b\n")
    place = f"{code}:2:12"
    assert "unknown base model" in run("complete", place).stderr
    added = run("models", "add", str(folder), "--json")
    assert added.returncode == 0, added.stderr
    model = json.loads(added.stdout)
    assert model["name"] == "mine.v1"
    answer = run("complete", place, "--json")
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["prompt_tokens"] > 0
    repository = tmp_path / "repository"
    for part in ("chat", "engine", "prompt"):
        shutil.copytree(CORE / part, repository / part)
    adapted = run("adapt", str(repository), "--steps", "1", "--budget", "25s", "--json")
    assert adapted.returncode in (0, 3), adapted.stderr
    assert json.loads(adapted.stdout)["base_model"] == "mine.v1"
    run("engine", "stop")
    listed = json.loads(run("models", "list", "--json").stdout)["models"]
    assert {one["name"]: one["status"] for one in listed}["mine.v1"] == "installed"
    with Path(model["path"]).open("ab") as grown:
        grown.write(b"more")
    refused = run("complete", place)
    assert refused.returncode == 1
    assert "as when it came" in refused.stderr
    checks = json.loads(run("doctor", "--json").stdout)["checks"]
    (fault,) = [check for check in checks if check["name"] == "model mine.v1"]
    assert not fault["ok"]
    assert run("models", "remove", "mine.v1").returncode == 0
    assert not Path(model["path"]).exists()
