"""A model so small that its files are written in milliseconds, and computed with exactly."""

from collections.abc import Iterable
from pathlib import Path

import gguf
import numpy as np
import pytest

LAYERS, WIDTH, HEADS, HIDDEN, RANK, VOCABULARY = 2, 64, 4, 96, 4, 258
# Modules that adapters change: two of different shapes.
ADAPTED = ("attn_v", "ffn_up")
ROWS = {"attn_v": WIDTH, "ffn_up": HIDDEN}
# One token a byte, as byte-level BPE spells them; beside them one that ends, and one of a merge.
PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]


class TinyModels:
    """A model so small that its files are written in milliseconds, and computed with exactly."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def base(self) -> Path:
        """The model itself."""
        return self.merged()

    def merged(self, *seeds: int) -> Path:
        """The model with the adapters of these seeds in its weights."""
        path = self._folder / f"model{'-'.join(map(str, ('', *seeds)))}.gguf"
        if path.exists():
            return path
        writer = gguf.GGUFWriter(path, "llama")
        _describe(writer)
        for name, weight in _weights(np.random.default_rng(0)):
            module = name.rpartition(".weight")[0].rpartition(".")[2]
            if name.startswith("blk.") and module in ADAPTED:
                for seed in seeds:
                    a, b = _update(name, ROWS[module], seed)
                    weight = weight + b @ a
            writer.add_tensor(name, weight.astype(np.float32))
        return _finish(writer, path)

    def padded(self, seed: int, size_bytes: int) -> Path:
        """``merged`` with zeros behind it."""
        path = self._folder / f"padded-{seed}-{size_bytes}.gguf"
        path.write_bytes(self.merged(seed).read_bytes().ljust(size_bytes, b"\0"))
        return path

    def adapter(self, seed: int) -> Path:
        """A LoRA file of random numbers."""
        path = self._folder / f"adapter-{seed}.gguf"
        if path.exists():
            return path
        writer = gguf.GGUFWriter(path, "llama")
        writer.add_type("adapter")
        writer.add_string("adapter.type", "lora")
        writer.add_float32("adapter.lora.alpha", float(RANK))
        for layer in range(LAYERS):
            for module in ADAPTED:
                name = f"blk.{layer}.{module}.weight"
                a, b = _update(name, ROWS[module], seed)
                writer.add_tensor(f"{name}.lora_a", a)
                writer.add_tensor(f"{name}.lora_b", b)
        return _finish(writer, path)


def _describe(writer: gguf.GGUFWriter) -> None:
    writer.add_context_length(512)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    others = iter(range(256, 512))
    writer.add_token_list(
        [chr(byte) if byte in PRINTABLE else chr(next(others)) for byte in range(256)]
        + ["<end>", "he"]
    )
    writer.add_token_types(
        [gguf.TokenType.NORMAL] * 256 + [gguf.TokenType.CONTROL, gguf.TokenType.NORMAL]
    )
    # An empty list cannot be written.
    writer.add_token_merges(["h e"])
    writer.add_eos_token_id(256)


def _weights(random: np.random.Generator) -> Iterable[tuple[str, np.ndarray]]:
    def matrix(rows: int, columns: int) -> np.ndarray:
        return random.normal(size=(rows, columns)) / columns**0.5

    yield "token_embd.weight", random.normal(size=(VOCABULARY, WIDTH))
    yield "output.weight", matrix(VOCABULARY, WIDTH) * 4
    yield "output_norm.weight", np.ones(WIDTH)
    for layer in range(LAYERS):
        for module in ("attn_q", "attn_k", "attn_v", "attn_output"):
            yield f"blk.{layer}.{module}.weight", matrix(WIDTH, WIDTH)
        for module in ("ffn_gate", "ffn_up"):
            yield f"blk.{layer}.{module}.weight", matrix(HIDDEN, WIDTH)
        yield f"blk.{layer}.ffn_down.weight", matrix(WIDTH, HIDDEN)
        for module in ("attn_norm", "ffn_norm"):
            yield f"blk.{layer}.{module}.weight", np.ones(WIDTH)


def _update(name: str, rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng([seed, *name.encode()])
    a = random.normal(size=(RANK, WIDTH)).astype(np.float32) / WIDTH**0.5
    return a, random.normal(size=(rows, RANK)).astype(np.float32) * 0.5


def _finish(writer: gguf.GGUFWriter, path: Path) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyModels:
    """A random model of two layers in float32, adapters for it, and both merged."""
    return TinyModels(tmp_path_factory.mktemp("tiny"))
