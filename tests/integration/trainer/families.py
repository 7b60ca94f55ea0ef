"""Tiny random models of each family, as transformers has them and as GGUF files."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    Starcoder2Config,
    Starcoder2ForCausalLM,
)

from flex_assist.engine.context import Context
from flex_assist.engine.llama import Model
from flex_assist.models.hf_weights import write_gguf
from flex_assist.models.lora_gguf import write_lora
from flex_assist.models.quantized import F16, write_model
from flex_assist.models.survival import stored_updates
from flex_trainer import lora
from flex_trainer.lora import Masters

# Prompts are longer, so that something lies outside of it.
WINDOW = 16
VOCABULARY = 384
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
    "max_position_embeddings": 512, "bos_token_id": None, "eos_token_id": None,
    "pad_token_id": None, "use_cache": False, "attn_implementation": "eager",
}  # fmt: skip
LOCAL, WHOLE = "sliding_attention", "full_attention"
ROPES = {
    LOCAL: {"rope_type": "default", "rope_theta": 10000.0},
    WHOLE: {"rope_type": "default", "rope_theta": 1000000.0},
}

MULTIPLIERS: dict[str, Any] = {
    "attention_multiplier": 0.3, "embedding_multiplier": 3.0, "residual_multiplier": 0.4,
    "logits_scaling": 2.0, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
}  # fmt: skip


def _rope(base: float, factor: float = 0.0) -> dict[str, Any]:
    found = {"rope_type": "default", "rope_theta": base}
    return found | {"rope_type": "linear", "factor": factor} if factor else found


MODELS: dict[str, Callable[[dict[str, Any]], PreTrainedModel]] = {
    "llama": lambda sizes: LlamaForCausalLM(
        LlamaConfig(**sizes, rope_parameters=_rope(50000.0), tie_word_embeddings=True)
    ),
    # As DeepSeek-Coder 1.3B stretches it.
    "llama, stretched": lambda sizes: LlamaForCausalLM(
        LlamaConfig(**sizes, rope_parameters=_rope(100000.0, 4.0), tie_word_embeddings=False)
    ),
    # As Granite Code 3B has them.
    "llama, with biases": lambda sizes: LlamaForCausalLM(
        LlamaConfig(**sizes, rope_parameters=_rope(10000.0), attention_bias=True, mlp_bias=True)
    ),
    "qwen2": lambda sizes: Qwen2ForCausalLM(
        Qwen2Config(**sizes, rope_parameters=_rope(1000000.0), tie_word_embeddings=True)
    ),
    "qwen3": lambda sizes: Qwen3ForCausalLM(
        Qwen3Config(**{**sizes, "head_dim": 32}, rope_parameters=_rope(1000000.0))
    ),
    "starcoder2": lambda sizes: Starcoder2ForCausalLM(
        Starcoder2Config(**sizes, rope_parameters=_rope(999999.4), sliding_window=None)
    ),
    "granite": lambda sizes: GraniteForCausalLM(GraniteConfig(**sizes, **MULTIPLIERS)),
    "granite, with biases": lambda sizes: GraniteForCausalLM(
        GraniteConfig(**sizes, **MULTIPLIERS, attention_bias=True, mlp_bias=True)
    ),
    "gemma3": lambda sizes: Gemma3ForCausalLM(
        Gemma3TextConfig(
            **{**sizes, "num_hidden_layers": 7, "head_dim": 32}, rope_parameters=ROPES,
            query_pre_attn_scalar=32, sliding_window=WINDOW,
            layer_types=[WHOLE if at == 5 else LOCAL for at in range(7)],
        )
    ),
}  # fmt: skip


def random_model(family: str, **sizes: int) -> PreTrainedModel:
    """Float32 numbers that float16 holds exactly; norms and biases are no ones and zeros."""
    torch.manual_seed(0)
    model = MODELS[family]({**SIZES, **sizes}).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        spread = (0.8 if "embed_tokens" in name else 1.0) / parameter.shape[-1] ** 0.5
        if parameter.dim() == 1:
            parameter.add_(0.2 * torch.randn_like(parameter))
        else:
            parameter.copy_(spread * torch.randn_like(parameter))
        parameter.copy_(parameter.half().float())
    model.tie_weights()
    return model


def write(model: PreTrainedModel, path: Path, **others: float | torch.Tensor) -> None:
    """The model as a GGUF file in F16.

    Args:
        others: Weights that the model has not, and numbers by key, dots as two underscores.
    """
    named = {name.replace("__", "."): value for name, value in others.items()}
    more = {name: value for name, value in named.items() if isinstance(value, torch.Tensor)}
    weights = {
        name: (tuple(parameter.shape), lambda own=parameter: own.detach().numpy())
        for name, parameter in (*model.named_parameters(), *more.items())
    }

    def describe(writer: gguf.GGUFWriter) -> None:
        # Ids are all that is compared.
        writer.add_tokenizer_model("none")
        writer.add_vocab_size(VOCABULARY)
        for key in named.keys() - more.keys():
            writer.add_float32(key, named[key])

    write_gguf(path, model.config.to_dict(), weights, GGMLQuantizationType.F16, describe)


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """A base, an adapter, and their sum."""

    base: Path
    lora: Path
    merged: Path

    @classmethod
    def of(cls, folder: Path) -> "Files":
        return cls(
            base=folder / "base.gguf", lora=folder / "lora.gguf", merged=folder / "merged.gguf"
        )


def adapt(model: Any, files: Files) -> tuple[Any, Masters]:
    """Attach random updates that change the answer, and write the adapter and the sum in F16."""
    adapted = lora.attach(model, 4, 0)
    masters = Masters.of(adapted)
    for name, tensor in masters.state().items():
        if ".lora_B." in name:
            tensor.normal_(std=0.1)
    write_lora(files.base, files.lora, lora.as_arrays(adapted, masters))
    updates = {name: update.rows for name, update in stored_updates(files.lora).items()}
    write_model(files.base, files.merged, updates, kind=F16)
    return adapted, masters


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prompt:
    """A prompt, transformers' greedy tokens, and the logits that chose them and the next.

    Attributes:
        logits: (1 + n, V).
    """

    tokens: list[int]
    answer: list[int]
    logits: Any

    def is_a_toss_up(self, difference: float) -> bool:
        """Whether so much on two logits could change a token."""
        second, first = np.sort(self.logits[:-1], axis=-1)[:, -2:].T
        return bool((first - second).min() <= 2 * difference)


def answer(model: Any, prompt: list[int], count: int) -> Prompt:
    tokens = list(prompt)
    with torch.no_grad():
        for _ in range(count):
            tokens.append(int(model(torch.tensor([tokens])).logits[0, -1].argmax()))
        logits = model(torch.tensor([tokens])).logits[0]
    return Prompt(
        tokens=prompt, answer=tokens[len(prompt) :], logits=logits[len(prompt) - 1 :].numpy()
    )


def prompts(
    model: Any, count: int, length: int, answer_tokens: int, difference: float
) -> Iterator[Prompt]:
    """Random ones, less those whose tokens are a toss-up to transformers itself."""
    generator = np.random.default_rng(1)
    found = 0
    while found < count:
        tokens = generator.integers(0, VOCABULARY, length).tolist()
        made = answer(model, tokens, answer_tokens)
        if not made.is_a_toss_up(difference):
            found += 1
            yield made


def logits_of(path: Path, adapter: Path | None, prompt: Prompt) -> Any:
    """llama.cpp's logits after the prompt and after each token of its answer, (1 + n, V)."""
    model = Model.load(path)
    adapters = [model.load_adapter(adapter)] if adapter else []
    context = Context(model, adapters, 256, 2)
    context.extend(prompt.tokens)
    rows = [context.logits()]
    for token in prompt.answer:
        context.append(token)
        rows.append(context.logits())
    context.close()
    model.close()
    return np.stack(rows)
