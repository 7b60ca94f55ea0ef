"""A model small enough to look at: two blocks, width 64, random weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

WIDTH, HEADS, KV_HEADS, BLOCKS, WORDS = 64, 4, 2, 2, 32
F16, F32, Q4_1 = (
    gguf.GGMLQuantizationType.F16,
    gguf.GGMLQuantizationType.F32,
    gguf.GGMLQuantizationType.Q4_1,
)


def write_tiny(
    path: Path,
    kind: gguf.GGMLQuantizationType = F16,
    metadata: dict[str, int] | None = None,
    architecture: str = "llama",
) -> None:
    """A GGUF file like those of the family, with metadata of every kind."""
    random = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, architecture)
    numbers = {"block_count": BLOCKS, "attention.head_count": HEADS,
               "attention.head_count_kv": KV_HEADS, **(metadata or {})}  # fmt: skip
    for key, value in numbers.items():
        writer.add_uint32(f"{architecture}.{key}", value)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-5)
    writer.add_string("tokenizer.chat_template", "{% for m in messages %}ä{% endfor %}")
    writer.add_bool("tokenizer.ggml.add_bos_token", False)
    writer.add_array("tokenizer.ggml.tokens", [f"t{n}é" for n in range(WORDS)])
    writer.add_array("tokenizer.ggml.token_type", [1] * WORDS)
    writer.add_array("tokenizer.ggml.scores", [0.5] * WORDS)
    kv = WIDTH // HEADS * KV_HEADS
    shapes = {"token_embd.weight": (WORDS, WIDTH), "output_norm.weight": (WIDTH,)}
    for block in range(BLOCKS):
        shapes |= {
            f"blk.{block}.attn_q.weight": (WIDTH, WIDTH),
            f"blk.{block}.attn_k.weight": (kv, WIDTH),
            f"blk.{block}.attn_v.weight": (kv, WIDTH),
            f"blk.{block}.ffn_down.weight": (WIDTH, 48),
            f"blk.{block}.attn_norm.weight": (WIDTH,),
        }
    for name, shape in shapes.items():
        values = random.normal(size=shape).astype(np.float32)
        if len(shape) == 1:
            writer.add_tensor(name, values)
        elif kind == F16 or shape[-1] % 32:
            writer.add_tensor(name, values.astype(np.float16))
        else:
            data = values if kind == F32 else gguf.quants.quantize(values, kind)
            writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    write_tiny(path)
    return path


@pytest.fixture
def make_tiny(tmp_path: Path) -> Callable[..., Path]:
    def make(**changes: Any) -> Path:
        path = tmp_path / "made.gguf"
        write_tiny(path, **changes)
        return path

    return make
