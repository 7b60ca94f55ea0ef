"""A merged model in fewer bits: the importance matrix is used where it keeps what was learnt.

With the matrix, llama.cpp searches the grid that fits a tensor best. Where the base was itself
stored in few bits, that is the base's own grid, and the update, smaller than its steps, is rounded
away: the file is closer to the one before rounding, and answers as the base does (docs/log.md). So
both are made, and each tensor is taken from the one in which more of its update survives.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flex_assist.engine.quantize import check_space, expected_bytes, quantize
from flex_assist.files import write_atomically
from flex_assist.models.gguf_file import open_gguf
from flex_assist.models.importance import read_importance
from flex_assist.models.survival import survivals

# llama.cpp rounds to the others as it does without a matrix.
WITH_MATRIX: Final = ("Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0")
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What a file in fewer bits is made from.

    Attributes:
        half: Base + update in F16.
        matrix: A file of ``models.importance``, if there is one.
    """

    base: Path
    lora: Path
    half: Path
    matrix: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixUse:
    """For how many of a file's tensors that the matrix tells of it was used."""

    used: int
    known: int


def write_fewer_bits(
    sources: Sources,
    target: Path,
    kind: str,
    progress: Progress = lambda done, total: None,
    threads: int = 0,
) -> MatrixUse | None:
    """Write base + update in the form ``kind`` to ``target``, atomically.

    Args:
        threads: 0 takes all cores.

    Returns:
        None where no matrix was at hand, or the form has no use for one.

    Raises:
        ConfigError, ExportError, ModelError: As ``quantize`` and ``survivals``.
    """
    if sources.matrix is None or kind not in WITH_MATRIX:
        quantize(sources.half, target, kind, threads=threads, progress=progress)
        return None
    # The two beside each other.
    check_space(target, 2 * expected_bytes(sources.half, kind))
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as name:
        weighted, plain = Path(name) / "weighted.gguf", Path(name) / "plain.gguf"
        quantize(
            sources.half, weighted, kind, importance=sources.matrix, threads=threads,
            progress=lambda done, total: progress(done, 2 * total),
        )  # fmt: skip
        quantize(
            sources.half, plain, kind, threads=threads,
            progress=lambda done, total: progress(total + done, 2 * total),
        )  # fmt: skip
        better = _better_plain(sources, weighted, plain)
        write_atomically(target, lambda part: _mix(weighted, plain, better, part))
    known = read_importance(sources.matrix).sums
    return MatrixUse(used=len(known.keys() - better), known=len(known))


def _better_plain(sources: Sources, weighted: Path, plain: Path) -> set[str]:
    """Tensors of which more of the update survives without the matrix."""
    types = {tensor.name: tensor.tensor_type for tensor in open_gguf(plain).tensors}
    # Of some tensors llama.cpp takes a larger form where it has a matrix: those stay.
    alike = {
        tensor.name
        for tensor in open_gguf(weighted).tensors
        if types[tensor.name] == tensor.tensor_type
    }
    with_matrix = survivals(sources.base, sources.lora, weighted)
    without = survivals(sources.base, sources.lora, plain)
    return {name for name in alike & without.keys() if without[name] > with_matrix[name]}


def _mix(weighted: Path, plain: Path, from_plain: set[str], target: Path) -> None:
    """``weighted``, with some tensors' bytes from ``plain``: of the same types, so of one size."""
    others = {tensor.name: tensor for tensor in open_gguf(plain).tensors}
    places = [(tensor.name, int(tensor.data_offset)) for tensor in open_gguf(weighted).tensors]
    weighted.replace(target)
    with target.open("r+b") as file:
        for name, offset in places:
            if name in from_plain:
                file.seek(offset)
                file.write(others[name].data.tobytes())
