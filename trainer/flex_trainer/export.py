"""From a trained adapter to the files of a version."""

import hashlib
from pathlib import Path

from peft import PeftModel

from flex_assist.adapters.manifest import LORA_GGUF, MERGED_GGUF
from flex_assist.models.fim import FimTokens
from flex_assist.models.lora_gguf import write_lora, write_merged
from flex_trainer import lora
from flex_trainer.checkpoint import write_tensors
from flex_trainer.lora import ADAPTER, Masters

PEFT_WEIGHTS = "adapter_model.safetensors"


def write_files(
    model: PeftModel, masters: Masters, base: Path, base_name: str, folder: Path, fim: FimTokens
) -> None:
    """Write PEFT's files, the LoRA GGUF and the merged GGUF to ``folder``.

    Args:
        base: The base's GGUF file, as trained on.

    Raises:
        ExportError: A layout check failed; the folder is then of no use.
    """
    save_peft(model, masters, base_name, folder)
    modules = lora.as_arrays(model, masters)
    write_lora(base, folder / LORA_GGUF, modules)
    write_merged(base, folder / MERGED_GGUF, modules, fim)


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


def digest(path: Path) -> str:
    """SHA-256 of a file, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
