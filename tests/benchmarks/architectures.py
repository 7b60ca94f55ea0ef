"""Every family against llama.cpp: base, with LoRA, merged; ``make bars-architectures``.

A random model of each family, larger than in the tests, is computed by transformers in float32 and
by llama.cpp from F16 files: the largest difference of any logit, and whether the greedy tokens are
the same.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import bars
import numpy as np
import torch

from flex_trainer import base_model

sys.path.insert(0, str(Path(__file__).parents[1] / "integration" / "trainer"))
import families

BAR = 2e-2
SIZES = {"hidden_size": 256, "intermediate_size": 384, "num_hidden_layers": 4, "head_dim": 64}
PROMPTS, PROMPT_TOKENS, ANSWER_TOKENS = 5, 64, 8


def main() -> None:
    """Measure and store."""
    found = {family: measure(family) for family in families.MODELS}
    worst = max(form["max_abs_logit_difference"] for one in found.values() for form in one.values())
    same = all(form["same_greedy_tokens"] for one in found.values() for form in one.values())
    bars.write(
        "architectures",
        {
            "command": bars.command("architectures"),
            "bar": {"max_abs_logit_difference": BAR, "met": worst <= BAR and same},
            "sizes": SIZES,
            "prompts": PROMPTS,
            "greedy_tokens": ANSWER_TOKENS,
            "families": found,
        },
    )


def measure(family: str) -> dict[str, Any]:
    """The three forms of one family."""
    with tempfile.TemporaryDirectory() as folder:
        files = families.Files.of(Path(folder))
        model = families.random_model(family, **SIZES)
        families.write(model, files.base)
        loaded = base_model.load_base(files.base, torch.device("cpu"), torch.float32, plain=True)
        adapted, _ = families.adapt(loaded, files)
        return {
            "base": compare(model, files.base, None),
            "lora": compare(adapted, files.base, files.lora),
            "merged": compare(adapted, files.merged, None),
        }


def compare(model: Any, path: Path, adapter: Path | None) -> dict[str, Any]:
    """Transformers against llama.cpp."""
    worst, same, spread = 0.0, True, []
    for prompt in families.prompts(model, PROMPTS, PROMPT_TOKENS, ANSWER_TOKENS, BAR):
        found = families.logits_of(path, adapter, prompt)
        worst = max(worst, float(np.abs(found - prompt.logits).max()))
        same = same and found[:-1].argmax(-1).tolist() == prompt.answer
        spread.append(float(prompt.logits.std()))
    return {
        "max_abs_logit_difference": round(worst, 5),
        "same_greedy_tokens": same,
        "logits_standard_deviation": round(float(np.mean(spread)), 3),
    }


if __name__ == "__main__":
    main()
