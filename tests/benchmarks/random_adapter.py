"""A LoRA GGUF file of random numbers for a model, so that nothing need be trained first."""

from pathlib import Path
from typing import Final

import gguf
import numpy as np

RANK: Final = 4
# Enough to change what is said, and not so much that nothing else is left of the model.
SIZE: Final = 0.1


def write(path: Path, seed: int, model: Path) -> Path:
    """Write the adapter, of all attention's queries, for a model of the family llama."""
    fields = gguf.GGUFReader(model).fields
    width = int(fields["llama.embedding_length"].contents())
    layers = int(fields["llama.block_count"].contents())
    random = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(RANK))
    for layer in range(layers):
        a = random.normal(size=(RANK, width)).astype(np.float32) / width**0.5
        b = random.normal(size=(width, RANK)).astype(np.float32) * SIZE
        writer.add_tensor(f"blk.{layer}.attn_q.weight.lora_a", a)
        writer.add_tensor(f"blk.{layer}.attn_q.weight.lora_b", b)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
