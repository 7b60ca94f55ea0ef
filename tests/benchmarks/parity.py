"""Do PEFT, the LoRA GGUF and the merged GGUF agree?

An adapter is trained for some steps on this project's own source. Then, on an F16 base: logits and
greedy tokens of PEFT (float32) and of llama.cpp with the LoRA file; on the served base: the loss of
held-out text by PEFT, by the LoRA file, and by the merged file.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from flex_assist.adapters.manifest import LORA_GGUF, MERGED_GGUF
from flex_assist.adapters.registry import new_version
from flex_assist.config import EngineSettings, PromptSettings
from flex_assist.engine.context import Context
from flex_assist.engine.llama import Model
from flex_assist.engine.local import LocalEngine
from flex_assist.engine.protocol import Weights
from flex_assist.files import digest
from flex_assist.models import store
from flex_assist.models.fim import FimTokens
from flex_assist.models.merging import write_merged
from flex_assist.models.quantized import F16, write_model
from flex_assist.repository.documents import Document
from flex_trainer import base_model, export, lora
from flex_trainer.corpus import Corpus
from flex_trainer.export import Origin
from flex_trainer.loop import Trainer
from flex_trainer.lora import Masters
from flex_trainer.packing import planned_batches
from flex_trainer.recipe import Recipe

FIM = FimTokens(suffix_id=11, prefix_id=12, middle_id=13, end_id=0)
PROMPT_TOKENS, GREEDY_TOKENS = 48, 8
THREADS = 2


def measure(steps: int, prompts: int, windows: int, seed: int = 0) -> dict[str, Any]:
    """All figures, at the size asked for."""
    base = store.find("smollm2-135m").path
    vocabulary = Model.load(base, vocab_only=True)
    train, held_out = own_source()
    with TemporaryDirectory() as name:
        folder = Path(name)
        trained = train_adapter(base, train, vocabulary, steps, folder, seed)
        ids = [vocabulary.tokenize(text) for text in held_out]
        starts = [tokens[:PROMPT_TOKENS] for tokens in ids if len(tokens) >= PROMPT_TOKENS]
        starts = (starts * (prompts // len(starts) + 1))[:prompts]
        starts = [tokens[: PROMPT_TOKENS - at % 17] for at, tokens in enumerate(starts)]
        some = [tokens[:256] for tokens in ids][:windows]
        return {
            "f16": compare_logits(base, trained, starts, folder),
            "served": compare_losses(base, trained, some, folder),
        }


def own_source() -> tuple[list[str], list[str]]:
    """This project's own files: those to learn from, and the others."""
    files = sorted(Path(lora.__file__).parents[2].glob("*/flex_*/*.py")) + sorted(
        Path(store.__file__).parents[1].rglob("*.py")
    )
    texts = [path.read_text() for path in files if path.stat().st_size > 1500]
    return [t for at, t in enumerate(texts) if at % 4], texts[::4]


def train_adapter(
    base: Path, texts: Sequence[str], vocabulary: Model, steps: int, folder: Path, seed: int
) -> dict[str, torch.Tensor]:
    """Train, export to ``folder``, and give the masters."""
    documents = [
        Document(
            path=f"{at}.py", language="python", text=text, sha256="", is_test=False, cluster=at
        )
        for at, text in enumerate(texts)
    ]
    recipe = Recipe(seed=seed, threads=THREADS)
    torch.set_num_threads(THREADS)
    model = lora.attach(
        base_model.load_base(base, torch.device("cpu"), torch.bfloat16), recipe.rank, seed
    )
    corpus = Corpus(documents, vocabulary.tokenize, FIM, PromptSettings(), seed)
    trainer = Trainer(model, recipe, planned_batches(corpus.samples, steps, recipe))
    trainer.run(report=lambda _: None, should_stop=lambda _: False)
    export.write_files(model, trainer.masters, origin(base, texts, vocabulary, seed), folder)
    # Also where training was too short for ``adapt`` to keep it.
    write_merged(base, folder / LORA_GGUF, folder / MERGED_GGUF, FIM)
    return trainer.masters.state()


def origin(base: Path, texts: Sequence[str], vocabulary: Model, seed: int) -> Origin:
    """What the files of the adapter say of it."""
    return Origin(
        path=base,
        base_name="smollm2-135m",
        base_sha256=digest(base),
        name="python",
        version=new_version(),
        fim=FIM,
        texts=texts,
        encode=vocabulary.tokenize,
        seed=seed,
    )


def peft_model(base: Path, trained: dict[str, torch.Tensor]) -> Any:
    """The adapted model in float32."""
    model = lora.attach(base_model.load_base(base, torch.device("cpu"), torch.float32), 16, 0)
    Masters.of(model).load(trained)
    return model


def compare_logits(
    base: Path, trained: dict[str, torch.Tensor], prompts: Sequence[list[int]], folder: Path
) -> dict[str, Any]:
    """PEFT against llama.cpp with the LoRA file, both on the same F16 weights."""
    half = folder / "f16.gguf"
    write_model(base, half, kind=F16)
    peft = peft_model(half, trained)
    model = Model.load(half)
    context = Context(model, [model.load_adapter(folder / LORA_GGUF)], 512, THREADS)
    worst, same, decisions = 0.0, 0, 0
    for prompt in prompts:
        context.prefill(prompt)
        tokens, agreed = list(prompt), True
        for _ in range(GREEDY_TOKENS):
            with torch.no_grad():
                expected = peft(input_ids=torch.tensor([tokens])).logits[0, -1].numpy()
            got = context.logits()
            worst = max(worst, float(np.abs(got - expected).max()))
            decisions += 1
            agreed = agreed and int(got.argmax()) == int(expected.argmax())
            tokens.append(int(expected.argmax()))
            context.append(tokens[-1])
        same += agreed
    context.close()
    model.close()
    return {
        "prompts": len(prompts),
        "greedy_tokens_of_each": GREEDY_TOKENS,
        "prompts_with_the_same_greedy_tokens": same,
        "decisions": decisions,
        "max_abs_logit_difference": round(worst, 5),
    }


def compare_losses(
    base: Path, trained: dict[str, torch.Tensor], windows: Sequence[list[int]], folder: Path
) -> dict[str, Any]:
    """Held-out loss, nats a token, by PEFT, by the LoRA file and by the merged file."""
    served = folder / "served.gguf"
    write_model(base, served)
    peft = peft_model(base, trained)
    return {
        "windows": len(windows),
        "tokens": sum(len(window) - 1 for window in windows),
        "base_nats": mean(scores(Weights(model=served), windows)),
        "peft_nats": mean([peft_loss(peft, window) for window in windows]),
        "lora_nats": mean(scores(Weights(model=served, adapters=(folder / LORA_GGUF,)), windows)),
        "merged_nats": mean(scores(Weights(model=folder / MERGED_GGUF), windows)),
    }


def peft_loss(model: Any, window: list[int]) -> np.ndarray:
    """-log p of each token but the first, nats."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([window])).logits[0, :-1].double()
    losses = torch.nn.functional.cross_entropy(logits, torch.tensor(window[1:]), reduction="none")
    return losses.numpy()


def scores(weights: Weights, windows: Sequence[list[int]]) -> list[np.ndarray]:
    """The same by llama.cpp, of each window."""

    async def run() -> list[np.ndarray]:
        engine = LocalEngine(EngineSettings(threads=THREADS))
        try:
            return await engine.score(weights, windows)
        finally:
            await engine.close()

    return asyncio.run(run())


def mean(losses: Sequence[np.ndarray]) -> float:
    """Nats a token."""
    return round(float(np.concatenate(list(losses)).mean()), 5)


def main() -> int:
    """Measure at full size and write the bar."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--prompts", type=int, default=50)
    parser.add_argument("--windows", type=int, default=24)
    arguments = parser.parse_args()
    import bars

    figures = measure(arguments.steps, arguments.prompts, arguments.windows)
    bars.write("parity", {"command": "make bars-parity", **figures})
    return 0


if __name__ == "__main__":
    sys.exit(main())
