"""The other side: TRL's SFTTrainer with PEFT, on the model as transformers has it.

Its own defaults (attention, optimizer, loss) but for what the comparison sets: see ``Arm``.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast, TrainerCallback
from trl import SFTConfig, SFTTrainer

from flex_trainer import base_model, device
from flex_trainer.bench.arm import Arm, Measurement, shape
from flex_trainer.bench.clock import Clock
from flex_trainer.recipe import ALPHA_PER_RANK, LEARNING_RATE, Recipe


def measure(arm: Arm, documents: Sequence[Sequence[int]]) -> Measurement:
    """Train on the documents, once, in their order."""
    device.use_threads(0)
    place = torch.device(arm.device)
    clock = Clock(place)
    micro_batch, accumulated = shape(arm, [len(ids) for ids in documents])
    trainer = SFTTrainer(
        base_model.load_base(Path(arm.base), place, getattr(torch, arm.dtype), plain=True),
        args=_config(arm, micro_batch, accumulated),
        train_dataset=Dataset.from_dict({"input_ids": [list(ids) for ids in documents]}),
        processing_class=_tokenizer(),
        peft_config=_adapter(),
        callbacks=[_Marks(clock)],
    )
    if arm.adapter_dtype == arm.dtype:
        # PEFT makes adapters in float32.
        trainer.model.to(getattr(torch, arm.dtype))
    trainer.train()
    rows = [len(ids) for ids in trainer.train_dataset["input_ids"]]
    size = micro_batch * accumulated
    tokens = [sum(rows[at : at + size]) for at in range(0, len(rows), size)]
    return clock.measured(tokens, trainer.model)


def _config(arm: Arm, micro_batch: int, accumulated: int) -> Any:
    return SFTConfig(
        output_dir=os.path.join(os.getcwd(), "out"),
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=accumulated,
        num_train_epochs=1,
        max_length=arm.length,
        packing=arm.packing,
        gradient_checkpointing=arm.checkpointing,
        # The base is in its precision already; a float32 adapter over it on a GPU needs autocast.
        bf16=arm.device == "cuda" and arm.adapter_dtype != arm.dtype == "bfloat16",
        use_cpu=arm.device == "cpu",
        # The same documents in the same updates as ours.
        train_sampling_strategy="sequential",
        dataset_kwargs={"skip_prepare_dataset": not arm.packing},
        learning_rate=LEARNING_RATE["adamw"],
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
    )


def _adapter() -> Any:
    rank = Recipe().rank
    return LoraConfig(
        r=rank,
        lora_alpha=ALPHA_PER_RANK * rank,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def _tokenizer() -> Any:
    """One that is asked for its padding only: the documents are token ids already."""
    plain = models.WordLevel({"<end>": 0, "<unknown>": 1}, unk_token="<unknown>")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(plain), eos_token="<end>", pad_token="<end>"
    )
    tokenizer.chat_template = "none"
    return tokenizer


class _Marks(TrainerCallback):  # type: ignore[misc]
    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self._clock.mark()
