"""From a trained adapter to the files of a version."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft import PeftModel

from flex_assist.adapters.manifest import IMATRIX_GGUF, LORA_GGUF, MERGED_GGUF, PEFT_WEIGHTS
from flex_assist.engine.quantize import check_space
from flex_assist.files import digest
from flex_assist.models import merging
from flex_assist.models.fim import FimTokens
from flex_assist.models.importance import write_importance
from flex_assist.models.lora_gguf import write_lora
from flex_assist.models.provenance import LoraIdentity, Provenance
from flex_trainer import imatrix, lora
from flex_trainer.checkpoint import write_tensors
from flex_trainer.corpus import Encode
from flex_trainer.lora import ADAPTER, Masters


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What an adapter was made from, and its name.

    Attributes:
        path: The base's GGUF file, as trained on.
        name: The adapter's.
        texts: What was trained on: the importance matrix is measured on some of it. Without any
            there is none.
        encode: Text to token ids.
    """

    path: Path
    base_name: str
    base_sha256: str
    name: str
    version: str
    fim: FimTokens
    texts: Sequence[str]
    encode: Encode
    seed: int


def write_files(model: PeftModel, masters: Masters, origin: Origin, folder: Path) -> dict[str, Any]:
    """Write PEFT's files, the LoRA GGUF, the merged GGUF and the importance matrix to ``folder``.

    There is no merged GGUF where too little of the update would be in it.

    Returns:
        For the manifest: seconds of each part, and of each file to serve how much of the update
        is in it.

    Raises:
        ExportError: A layout check failed, or the disk is too small; the folder is then of no use.
    """
    begun_s = time.monotonic()
    check_space(folder / MERGED_GGUF, origin.path.stat().st_size)
    save_peft(model, masters, origin.base_name, folder)
    adapter = folder / LORA_GGUF
    identity = LoraIdentity(
        base_name=origin.base_name,
        base_sha256=origin.base_sha256,
        adapter=origin.name,
        fim=origin.fim,
    )
    write_lora(origin.path, adapter, lora.as_arrays(model, masters), identity)
    merged_s = time.monotonic()
    found = _write_merged(origin, adapter, folder / MERGED_GGUF)
    measured_s = time.monotonic()
    tokens = _write_importance(model, origin, folder / IMATRIX_GGUF) if origin.texts else 0
    ended_s = time.monotonic()
    return {
        "seconds": {
            "lora": round(merged_s - begun_s, 2),
            "merged": round(measured_s - merged_s, 2),
            "imatrix": round(ended_s - measured_s, 2),
        },
        "imatrix_tokens": tokens,
        "forms": {MERGED_GGUF: found},
    }


def _write_merged(origin: Origin, adapter: Path, merged: Path) -> dict[str, Any]:
    provenance = Provenance(
        base_name=origin.base_name,
        base_sha256=origin.base_sha256,
        adapter=origin.name,
        version=origin.version,
        adapter_sha256=digest(adapter),
    )
    return merging.write_served(origin.path, adapter, merged, origin.fim, provenance)


def _write_importance(model: PeftModel, origin: Origin, target: Path) -> int:
    """Give how many tokens it is measured on."""
    found = imatrix.collect(model, origin.path, origin.encode, origin.texts, origin.seed)
    write_importance(target, found, imatrix.ROW_TOKENS)
    return found.tokens


def save_peft(model: PeftModel, masters: Masters, base_name: str, folder: Path) -> None:
    """Write the adapter as PEFT reads it, in float32."""
    weights = {
        name.replace(f".{ADAPTER}.", "."): tensor for name, tensor in masters.state().items()
    }
    write_tensors(folder / PEFT_WEIGHTS, weights, {"format": "pt"})
    config = model.peft_config[ADAPTER]
    config.base_model_name_or_path = base_name
    config.inference_mode = True
    # PEFT has a set there, whose order changes from run to run.
    config.target_modules = sorted(config.target_modules)
    config.save_pretrained(str(folder))
    config.inference_mode = False


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each file in ``folder``."""
    found = {}
    for path in sorted(folder.iterdir()):
        path.chmod(0o600)
        found[path.name] = digest(path)
    return found
