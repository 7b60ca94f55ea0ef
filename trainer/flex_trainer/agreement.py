"""Does a merged file say what the adapter over the base says?"""

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flex_assist.adapters.manifest import LORA_GGUF, MERGED_GGUF
from flex_assist.engine.local import LocalEngine
from flex_assist.engine.protocol import Finished, GenerateRequest, TextPiece, Weights
from flex_assist.errors import ExportError
from flex_trainer.corpus import Encode

WINDOWS, WINDOW_TOKENS = 2, 128
PROMPT_TOKENS, GREEDY_TOKENS = 48, 8
# Nats a token. Rounding to Q8_0 moves a loss by less than 0.01.
MOST_APART = 0.05
# What vocabularies split differently where one is not the other's.
TEXTS = (
    "def f(x: int) -> int:\n    return x  # 1234567\n",
    "\tif (a!=b)&&c { x += 0xFF; }\r\n\r\n\n",
    "naïve café — “quotes” 日本語 🙂 e\u0301",
    "<|endoftext|><|im_start|><fim_prefix>",
    "     trailing   spaces   \n\n\n\t\t",
)


async def check_merged(
    engine: LocalEngine,
    served: Path,
    folder: Path,
    held_out: Iterable[str],
    encode: Encode,
    exported: dict[str, Any],
) -> None:
    """Compare the merged file of a version, if it has one, and remove it where that cannot be done.

    Args:
        served: The base as it is served.
        folder: The version's.
        held_out: Texts that were not trained on; the first ones that are long enough are used.
        exported: The manifest's part on the files: what was found is added.

    Raises:
        ExportError: See ``agreement``.
    """
    lora, merged = folder / LORA_GGUF, folder / MERGED_GGUF
    exported["agreement"] = None
    if not merged.is_file():
        return
    found = exported["agreement"] = await agreement(
        engine,
        Weights(model=served, adapters=(lora,)),
        Weights(model=merged),
        (encode(text) for text in held_out),
    )
    if not found["windows"]:
        merged.unlink()
        exported["forms"][MERGED_GGUF] |= {
            "kept": False,
            "reason": f"no held-out file has more than {PROMPT_TOKENS} tokens to check it on",
        }


async def agreement(
    engine: LocalEngine, base: Weights, merged: Weights, held_out: Iterable[Sequence[int]]
) -> dict[str, Any]:
    """Compare the two on code that was not trained on.

    Args:
        base: The base as it is served, with the adapter over it.
        held_out: Token ids of texts; the beginnings of the first that are long enough are used.

    Returns:
        For the manifest: nats a token of each, and how many greedy tokens are the same.

    Raises:
        ExportError: They take the same text for other tokens, or are too far apart.
    """
    await _check_tokens(engine, base.model, merged.model)
    starts = (tuple(ids[:WINDOW_TOKENS]) for ids in held_out if len(ids) > PROMPT_TOKENS)
    windows = list(itertools.islice(starts, WINDOWS))
    if not windows:
        return {"windows": 0}
    losses = [
        float(np.concatenate(await engine.score(weights, windows)).mean())
        for weights in (base, merged)
    ]
    if not abs(losses[0] - losses[1]) <= MOST_APART:
        raise ExportError(
            f"the merged file is at {losses[1]:.3f} nats a token of code not trained on, base and "
            f"adapter at {losses[0]:.3f}; nothing is published, adapt again"
        )
    same = 0
    for window in windows:
        prompt = window[:PROMPT_TOKENS]
        answers = [await _greedy(engine, weights, prompt) for weights in (base, merged)]
        same += answers[0] == answers[1]
    return {
        "windows": len(windows),
        "lora_nats": round(losses[0], 5),
        "merged_nats": round(losses[1], 5),
        "same_greedy_answers": same,
    }


async def _check_tokens(engine: LocalEngine, base: Path, merged: Path) -> None:
    pieces = [TextPiece(text=text) for text in TEXTS]
    pieces += [TextPiece(text=text, special=True) for text in TEXTS]
    wanted, got = await engine.tokenize(base, pieces), await engine.tokenize(merged, pieces)
    for piece, one, other in zip(pieces, wanted, got, strict=True):
        if one != other:
            raise ExportError(
                f"the merged file takes {piece.text!r} for the tokens {other}, the base for {one}; "
                "nothing is published"
            )


async def _greedy(engine: LocalEngine, weights: Weights, prompt: tuple[int, ...]) -> str:
    request = GenerateRequest(weights=weights, tokens=prompt, max_tokens=GREEDY_TOKENS)
    async for item in engine.generate(request):
        if isinstance(item, Finished):
            return item.text
    return ""
