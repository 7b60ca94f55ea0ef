"""A base model that tests build, real enough for llama.cpp, and an adapter that was not trained."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from flex_assist.adapters.manifest import Manifest
from flex_assist.adapters.manifest import to_json as manifest_text
from flex_assist.adapters.registry import AdapterVersion, Registry, new_version
from flex_assist.engine.llama import Model
from flex_assist.files import digest
from flex_assist.locations import locate
from flex_assist.models.fim import FimTokens
from flex_trainer import base_model, export, lora
from flex_trainer.export import Origin
from flex_trainer.lora import Masters

WIDTH, HEADS, KV_HEADS, INNER, BLOCKS, RANK = 256, 4, 2, 512, 2, 4
CONTROL = ("<|stop|>", "<|im_start|>", "<|im_end|>", "<pre>", "<suf>", "<mid>")
FIRST_CONTROL = 256
FIM = FimTokens(
    suffix_id=FIRST_CONTROL + 4,
    prefix_id=FIRST_CONTROL + 3,
    middle_id=FIRST_CONTROL + 5,
    end_id=FIRST_CONTROL,
)
TEXTS = tuple(f"def f{n}(x):\n    return x * {n} + {n * 7}\n" * 30 for n in range(6))
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}<|im_start|>assistant\n"
)


def byte_letters() -> list[str]:
    """The letters that byte-level vocabularies write bytes as."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    letters = {byte: chr(byte) for byte in plain}
    letters |= {byte: chr(256 + at) for at, byte in enumerate(others)}
    return [letters[byte] for byte in range(256)]


def write_base(path: Path, seed: int = 0, letters: Sequence[str] | None = None) -> None:
    """A random llama in F16: two blocks, a vocabulary of bytes and control tokens."""
    random = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "llama")
    for key, value in {
        "block_count": BLOCKS, "context_length": 512, "embedding_length": WIDTH,
        "feed_forward_length": INNER, "attention.head_count": HEADS,
        "attention.head_count_kv": KV_HEADS, "rope.dimension_count": WIDTH // HEADS,
    }.items():  # fmt: skip
        writer.add_uint32(f"llama.{key}", value)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-5)
    writer.add_string("general.name", "tiny")
    writer.add_string("tokenizer.ggml.model", "gpt2")
    writer.add_string("tokenizer.ggml.pre", "default")
    tokens = [*(letters or byte_letters()), *CONTROL]
    writer.add_array("tokenizer.ggml.tokens", tokens)
    writer.add_array("tokenizer.ggml.token_type", [1] * 256 + [3] * len(CONTROL))
    writer.add_array("tokenizer.ggml.merges", ["a b"])
    writer.add_uint32("tokenizer.ggml.eos_token_id", FIRST_CONTROL + 2)
    writer.add_bool("tokenizer.ggml.add_bos_token", False)
    writer.add_string("tokenizer.chat_template", TEMPLATE)
    kv = WIDTH // HEADS * KV_HEADS
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (len(tokens), WIDTH),
        "output_norm.weight": (WIDTH,),
    }
    for block in range(BLOCKS):
        for name, shape in {
            "attn_q": (WIDTH, WIDTH), "attn_k": (kv, WIDTH), "attn_v": (kv, WIDTH),
            "attn_output": (WIDTH, WIDTH), "ffn_gate": (INNER, WIDTH), "ffn_up": (INNER, WIDTH),
            "ffn_down": (WIDTH, INNER), "attn_norm": (WIDTH,), "ffn_norm": (WIDTH,),
        }.items():  # fmt: skip
            shapes[f"blk.{block}.{name}.weight"] = shape
    for name, shape in shapes.items():
        if len(shape) == 1:
            # Not all alike: some inputs of a layer matter more than others.
            writer.add_tensor(name, np.exp(random.normal(size=shape)).astype(np.float32))
        else:
            writer.add_tensor(name, random.normal(size=shape, scale=0.05).astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("base") / "tiny.gguf"
    write_base(path)
    return path


@pytest.fixture(scope="session")
def adapted(base: Path) -> Any:
    """The base with an update as large as training gives."""
    torch.manual_seed(1)
    model = lora.attach(base_model.load_base(base, torch.device("cpu"), torch.float32), RANK, 0)
    for name, parameter in model.named_parameters():
        if ".lora_B." in name:
            parameter.data = torch.randn_like(parameter) * 0.008
    return model


@pytest.fixture(scope="session")
def encode(base: Path) -> Callable[[str], list[int]]:
    return Model.load(base, vocab_only=True).tokenize


@pytest.fixture(scope="session")
def origin(base: Path, encode: Callable[[str], list[int]]) -> Origin:
    return Origin(
        path=base, base_name="tiny", base_sha256=digest(base), name="python",
        version=new_version(), fim=FIM, texts=TEXTS, encode=encode, seed=0,
    )  # fmt: skip


@pytest.fixture(scope="session")
def written(
    adapted: Any, origin: Origin, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """The files of a version, and what the export says of them."""
    folder = tmp_path_factory.mktemp("written")
    return folder, export.write_files(adapted, Masters.of(adapted), origin, folder)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    (root / ".git").mkdir(parents=True)
    return root


@pytest.fixture
def registry(repository: Path) -> Registry:
    return Registry(locate(), repository)


@pytest.fixture
def version(
    written: tuple[Path, dict[str, Any]], origin: Origin, registry: Registry
) -> AdapterVersion:
    """The files as an active version."""
    folder, details = written
    staged = registry.stage("python")
    for path in folder.iterdir():
        (staged / path.name).write_bytes(path.read_bytes())
    found = Manifest(
        name="python", version=origin.version, languages=("python",), base_model="tiny",
        base_sha256=origin.base_sha256, fim=FIM, verdict="promoted", reason="better",
        details={"export": details}, artefacts=export.digests(staged),
    )  # fmt: skip
    (staged / "manifest.json").write_text(manifest_text(found))
    registry.publish("python", staged, found.version)
    return registry.activate("python", found.version)
