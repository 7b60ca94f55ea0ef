"""Base + update in a form that llama.cpp's quantizer makes."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from flex_assist.engine import quantize
from flex_assist.models.fim import FimTokens

if TYPE_CHECKING:
    from flex_assist.models.provenance import Provenance

# Those whose rounding an importance matrix steers.
WITH_MATRIX: Final = ("Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a merged file is made of.

    Attributes:
        base: The file that was trained on.
        lora: The update.
        matrix: An importance matrix, if there is one.
    """

    base: Path
    lora: Path
    fim: FimTokens | None = None
    matrix: Path | None = None
    provenance: "Provenance | None" = None


def write_form(
    parts: Parts,
    target: Path,
    kind: str,
    *,
    threads: int = 0,
    progress: quantize.Progress = lambda done, total: None,
) -> float:
    """Write base + update as ``kind``, a name of ``quantize.TYPES``, to ``target``.

    With an importance matrix the update is merged so much longer as rounding will shorten it, and
    where rounding would leave nothing of it the matrix is not used (``models.rounding``).

    Returns:
        By how much an update was merged longer, at most.

    Raises:
        ExportError: The disk is too small, or llama.cpp failed. What was begun lies beside
            ``target``.
        ModelError: A file is damaged.
    """
    from flex_assist.models.merging import write_merged
    from flex_assist.models.quantized import F16

    half, part = target.with_suffix(".f16"), target.with_suffix(".imatrix")
    quantize.check_space(half, _half_bytes(parts.base))
    gains, importance = _corrected(parts, kind, part, threads)
    write_merged(
        parts.base, parts.lora, half, parts.fim,
        provenance=parts.provenance, kind=F16, gains=gains,
    )  # fmt: skip
    quantize.quantize(half, target, kind, importance=importance, threads=threads, progress=progress)
    half.unlink()
    part.unlink(missing_ok=True)
    return max(gains.values(), default=1.0)


def _corrected(
    parts: Parts, kind: str, part: Path, threads: int
) -> tuple[Mapping[str, float], Path | None]:
    """How much longer to merge; and what is used of the matrix, written to ``part`` if anything."""
    from flex_assist.models.rounding import learn_correction, write_part

    if parts.matrix is None or kind not in WITH_MATRIX:
        return {}, None

    def rounded(source: Path, target: Path, matrix: Path) -> None:
        quantize.quantize(source, target, kind, importance=matrix, threads=threads)

    correction = learn_correction(parts.base, parts.lora, parts.matrix, part.parent, rounded)
    left = write_part(parts.matrix, correction.dropped, part)
    return correction.gains, part if left else None


def _half_bytes(base: Path) -> int:
    """Bytes of a model in F16."""
    from flex_assist.models.gguf_file import open_gguf

    return 2 * sum(int(tensor.n_elements) for tensor in open_gguf(base).tensors)
