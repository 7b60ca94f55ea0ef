"""Models small enough to train in milliseconds, and in seconds."""

import random
from contextlib import closing
from pathlib import Path

import gguf
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from flex_assist.models import store
from flex_assist.models.gguf_file import open_gguf
from flex_trainer import lora
from flex_trainer.corpus import Sample

VOCABULARY = 48


def tiny_model(seed: int = 0, dtype: torch.dtype = torch.float32):
    """A random llama of two layers with a LoRA of rank 4."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        attn_implementation="eager",
    )
    model = LlamaForCausalLM(config).to(dtype).requires_grad_(False).eval()
    model.config.use_cache = False
    return lora.attach(model, 4, seed)


def tiny_batches(count: int, seed: int = 0) -> list[list[Sample]]:
    """Batches of a language that can be learnt: each token follows from the one before."""
    rng = random.Random(seed)
    successor = [*range(1, VOCABULARY), 1]
    batches = []
    for _ in range(count):
        batch = []
        for _ in range(4):
            tokens = [rng.randrange(1, VOCABULARY)]
            for _ in range(rng.randint(8, 20)):
                tokens.append(successor[tokens[-1]])
            sequence = tuple(tokens)
            batch.append(Sample(tokens=sequence, labels=sequence, weights=(1.0,) * len(sequence)))
        batches.append(batch)
    return batches


SHALLOW_LAYERS = 4
# Control tokens of the starter's vocabulary, as suffix, prefix and middle.
SENTINELS = {"suf": 5, "pre": 6, "mid": 7}


@pytest.fixture(scope="session")
def shallow_starter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The starter with its first layers only, whole enough to be served: a seventh of the time."""
    reader = open_gguf(store.find("smollm2-135m").path)
    path = tmp_path_factory.mktemp("shallow") / "shallow.gguf"
    changed = {"llama.block_count": SHALLOW_LAYERS}
    changed |= {f"tokenizer.ggml.fim_{name}_token_id": id for name, id in SENTINELS.items()}
    with closing(gguf.GGUFWriter(path, "llama")) as writer:
        for name, field in reader.fields.items():
            if name.startswith("GGUF.") or name == "general.architecture" or name in changed:
                continue
            inner = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(name, field.contents(), field.types[0], sub_type=inner)
        for name, value in changed.items():
            writer.add_uint32(name, value)
        for tensor in reader.tensors:
            _, _, rest = tensor.name.partition("blk.")
            if not rest or int(rest.partition(".")[0]) < SHALLOW_LAYERS:
                writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    return path


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
