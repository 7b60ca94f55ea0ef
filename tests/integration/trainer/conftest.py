"""Models small enough to train in milliseconds, and in seconds."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

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


@pytest.fixture(scope="session")
def shallow_starter(cut_starter: Callable[[int], Path]) -> Path:
    """The starter's first layers: a seventh of its time."""
    return cut_starter(4)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
