"""Base + update as a model of its own."""

from pathlib import Path
from typing import Any

from gguf import GGMLQuantizationType

from flex_assist.errors import ExportError
from flex_assist.models.fim import FimTokens
from flex_assist.models.gguf_file import open_gguf
from flex_assist.models.provenance import Provenance, fim_metadata
from flex_assist.models.quantized import Q8_0, write_model
from flex_assist.models.survival import Survival, stored_updates, survival

# What is served must be the adapter, not a rounded base: Q4_0 keeps about 0.2 of it.
LEAST_SURVIVAL = 0.9


def write_merged(
    base: Path,
    lora: Path,
    target: Path,
    fim: FimTokens | None,
    *,
    provenance: Provenance | None = None,
    kind: GGMLQuantizationType = Q8_0,
) -> None:
    """Write base + update, atomically; summed in float32.

    Args:
        base: The file that was trained on. In 4 or 5 bits it is dequantized.
        lora: The update, as ``lora_gguf.write_lora`` wrote it: its layout was checked there.
        kind: Q8_0 to serve it, F16 to quantize it further.

    Raises:
        ExportError: The update is not of this base.
        ModelError: A file is damaged.
    """
    metadata: dict[str, int | str] = {**fim_metadata(open_gguf(base), fim)}
    if provenance is not None:
        metadata |= provenance.metadata()
    updates = {name: update.rows for name, update in stored_updates(lora).items()}
    write_model(base, target, updates, metadata, kind)


def check_survival(base: Path, lora: Path, merged: Path) -> Survival:
    """How much of the update a file to serve holds.

    Raises:
        ExportError: Less than ``LEAST_SURVIVAL``.
    """
    found = survival(base, lora, merged)
    if found.mean < LEAST_SURVIVAL:
        raise ExportError(
            f"{merged.name!r} holds too little of what was learnt (cosine {found.mean:.2f}, least "
            f"{found.least:.2f} at {found.tensor!r}); train longer, or take a base in more bits"
        )
    return found


def record(path: Path, kind: str, found: Survival) -> dict[str, Any]:
    """What the manifest keeps of a file."""
    return {"type": kind, "bytes": path.stat().st_size, "survival": found.record()}
