"""Base + update as a model of its own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gguf import GGMLQuantizationType

from flex_assist.models.fim import FimTokens
from flex_assist.models.gguf_file import open_gguf
from flex_assist.models.provenance import Provenance, fim_metadata
from flex_assist.models.quantized import Q8_0, write_model
from flex_assist.models.survival import stored_updates, survival

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
    gains: Mapping[str, float] | None = None,
) -> None:
    """Write base + update, atomically; summed in float32.

    Args:
        base: The file that was trained on. In 4 or 5 bits it is dequantized.
        lora: The update, as ``lora_gguf.write_lora`` wrote it: its layout was checked there.
        kind: Q8_0 to serve it, F16 to quantize it further.
        gains: By tensor: what its update is multiplied by, 1 if not given (``rounding``).

    Raises:
        ExportError: The update is not of this base.
        ModelError: A file is damaged.
    """
    metadata: dict[str, int | str] = {**fim_metadata(open_gguf(base), fim)}
    if provenance is not None:
        metadata |= provenance.metadata()
    updates = {
        name: update.times((gains or {}).get(name, 1.0)).rows
        for name, update in stored_updates(lora).items()
    }
    write_model(base, target, updates, metadata, kind)


def write_served(
    base: Path, lora: Path, target: Path, fim: FimTokens | None, provenance: Provenance
) -> dict[str, Any]:
    """Write base + update to serve it; nothing where rounding swallows too much of the update.

    The adapter over the base is exact, and is served then. After a short training that is so.

    Returns:
        For the manifest: what the file holds, and whether it was kept.

    Raises:
        ExportError, ModelError: See ``write_merged``.
    """
    write_merged(base, lora, target, fim, provenance=provenance)
    found = survival(base, lora, target)
    kept, size = found.mean >= LEAST_SURVIVAL, target.stat().st_size
    if not kept:
        target.unlink()
    return {"type": "Q8_0", "bytes": size, "survival": found.record(), "kept": kept}
