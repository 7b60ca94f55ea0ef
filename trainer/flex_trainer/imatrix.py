"""The importance matrix of an adapted model: how large the inputs of each layer usually are.

Mostly on the user's own code, which is what the quantized file will be asked about, and partly on
general text, so that the rest of what the model knows is rounded with some care as well.
"""

import itertools
import pydoc_data
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flex_assist.models.architectures import layout
from flex_assist.models.gguf_file import architecture, open_gguf
from flex_assist.models.importance import Importance
from flex_trainer import lora
from flex_trainer.corpus import Encode

ROW_TOKENS = 256
# Rows out of ten that are the user's own code.
OWN_OF_TEN = 7
MOST_TOKENS = 10 * ROW_TOKENS
MOST_SECONDS = 20.0
# Prose and code that come with every Python: read as text, nothing of it runs.
PROSE = Path(pydoc_data.__path__[0]) / "topics.py"
CODE = tuple(Path(random.__file__).with_name(name) for name in ("argparse.py", "textwrap.py"))
GENERAL_CHARACTERS = 40_000


def collect(
    model: Any, base: Path, encode: Encode, own: Sequence[str], seed: int, most: int = MOST_TOKENS
) -> Importance:
    """Sums of squared inputs of every adapted layer, over own code and general text.

    Args:
        model: The base with its LoRA attached.
        base: The base's GGUF file, for the names.
        own: Texts that were trained on.
        most: Tokens at most; on a slow machine fewer are taken.
    """
    plan = layout(reader := open_gguf(base), architecture(reader))
    rows = _mixed(_rows(own, encode, seed), _rows(general_texts(), encode, seed))
    sums, tokens = _sums_of_squares(model, itertools.islice(rows, max(1, most // ROW_TOKENS)))
    # As they are: re-ordering for llama.cpp moves rows, which are a layer's outputs. Its inputs,
    # the columns, keep their places.
    named = {
        f"{plan.gguf_name(name)}.weight": values.cpu().numpy().astype(np.float32)
        for name, values in sums.items()
    }
    return Importance(
        sums=named, tokens=tokens, sources=("the repository's training code", "general text")
    )


def general_texts() -> list[str]:
    """Prose about programming, and some code; the same on every machine with this Python."""
    files = [path for path in (PROSE, *CODE) if path.is_file()]
    return [path.read_text(encoding="utf-8")[:GENERAL_CHARACTERS] for path in files]


def _sums_of_squares(model: Any, rows: Iterator[list[int]]) -> tuple[dict[str, Tensor], int]:
    layers = lora.layers(model)
    core = model.get_base_model()
    sums = {
        name: torch.zeros(layer.in_features, dtype=torch.float64, device=core.device)
        for name, layer in layers.items()
    }

    def adding(name: str) -> Any:
        def hook(module: Any, inputs: tuple[Tensor, ...]) -> None:
            sums[name] += inputs[0].detach().flatten(0, -2).float().square().sum(0)

        return hook

    handles = [layer.register_forward_pre_hook(adding(name)) for name, layer in layers.items()]
    tokens, until_s = 0, time.monotonic() + MOST_SECONDS
    try:
        with torch.no_grad():
            for row in rows:
                core.model(input_ids=torch.tensor([row], device=core.device))
                tokens += len(row)
                if time.monotonic() > until_s:
                    break
    finally:
        for handle in handles:
            handle.remove()
    return sums, tokens


def _mixed(own: Iterator[list[int]], general: Iterator[list[int]]) -> Iterator[list[int]]:
    """Rows of both in turn, so that wherever one stops the shares are about right."""
    for at in itertools.count(1):
        # Of ten in a row, the 3rd, the 6th and the 10th are general.
        first, second = (own, general) if at * OWN_OF_TEN // 10 > (at - 1) * OWN_OF_TEN // 10 else (
            general, own
        )  # fmt: skip
        row = next(first, None) or next(second, None)
        if row is None:
            return
        yield row


def _rows(texts: Sequence[str], encode: Encode, seed: int) -> Iterator[list[int]]:
    """Rows of ``ROW_TOKENS`` tokens, one of each text in turn; a shorter rest is a row too."""
    order = list(texts)
    random.Random(seed).shuffle(order)
    open_texts = [_cut(text, encode) for text in order]
    while open_texts:
        still = []
        for rows in open_texts:
            if (row := next(rows, None)) is not None:
                yield row
                still.append(rows)
        open_texts = still


def _cut(text: str, encode: Encode) -> Iterator[list[int]]:
    # Encoded only when asked for: a repository may have thousands of files.
    tokens = encode(text)
    for start in range(0, len(tokens), ROW_TOKENS):
        if row := tokens[start : start + ROW_TOKENS]:
            yield row
