"""The importance matrix is used where it keeps what was learnt."""

from pathlib import Path

import numpy as np
import pytest

from flex_assist.adapters.exporting import export
from flex_assist.adapters.fewer_bits import WITH_MATRIX, MatrixUse, Sources, write_fewer_bits
from flex_assist.adapters.manifest import IMATRIX_GGUF, LORA_GGUF
from flex_assist.adapters.registry import AdapterVersion
from flex_assist.engine.llama import Model
from flex_assist.engine.quantize import quantize
from flex_assist.errors import ExportError
from flex_assist.models.gguf_file import open_gguf
from flex_assist.models.importance import Importance, read_importance, write_importance
from flex_assist.models.merging import write_merged
from flex_assist.models.quantized import F16
from flex_assist.models.survival import survivals

from .test_exporting import order


@pytest.fixture
def sources(written: tuple[Path, dict[str, object]], base: Path, tmp_path: Path) -> Sources:
    """An update over a base that is in four bits itself, as the starter is."""
    four, half = tmp_path / "four.gguf", tmp_path / "half.gguf"
    quantize(base, four, "Q4_0")
    folder, _ = written
    write_merged(four, folder / LORA_GGUF, half, None, kind=F16)
    return Sources(
        base=four, lora=folder / LORA_GGUF, half=half, matrix=folder / IMATRIX_GGUF
    )  # fmt: skip


@pytest.mark.parametrize("kind", WITH_MATRIX)
def test_each_tensor_keeps_as_much_as_without_the_matrix(
    sources: Sources, tmp_path: Path, kind: str
) -> None:
    told: list[tuple[int, int]] = []
    target, plain, weighted = (tmp_path / f"{name}.gguf" for name in ("made", "plain", "weighted"))
    use = write_fewer_bits(sources, target, kind, lambda *step: told.append(step))
    quantize(sources.half, plain, kind)
    quantize(sources.half, weighted, kind, importance=sources.matrix)
    assert sources.matrix is not None
    assert use is not None
    assert use.known == len(read_importance(sources.matrix).sums)
    kept, with_matrix, without = (
        survivals(sources.base, sources.lora, path) for path in (target, weighted, plain)
    )
    types = [{t.name: t.tensor_type for t in open_gguf(path).tensors} for path in (weighted, plain)]
    alike = {name for name in kept if types[0][name] == types[1][name]}
    assert alike
    for name in alike:
        assert kept[name] == max(with_matrix[name], without[name])
    better = {name for name in alike if without[name] > with_matrix[name]}
    assert use == MatrixUse(used=use.known - len(better), known=use.known)
    size = len(open_gguf(target).tensors)
    assert told == [(at, 2 * size) for at in range(1, 2 * size + 1)]
    assert target.stat().st_mode & 0o777 == 0o600
    assert not list(tmp_path.glob(".*"))
    Model.load(target)


def test_a_grid_that_swallows_the_update_is_not_used(sources: Sources, tmp_path: Path) -> None:
    """Weights that meet no input but a few are free to fall back on the base's grid."""
    assert sources.matrix is not None
    found = read_importance(sources.matrix)
    sums = {}
    for name, values in found.sums.items():
        sums[name] = np.full_like(values, 1e-6)
        sums[name][::32] = 1e6
    write_importance(
        matrix := tmp_path / "matrix.gguf", Importance(sums=sums, tokens=found.tokens), 256
    )  # fmt: skip
    lopsided = Sources(base=sources.base, lora=sources.lora, half=sources.half, matrix=matrix)
    use = write_fewer_bits(lopsided, tmp_path / "made.gguf", "Q4_K_M")
    assert use is not None
    assert use.used < use.known / 2


@pytest.mark.parametrize("kind", ["F16", "Q8_0"])
def test_forms_without_use_for_a_matrix(sources: Sources, tmp_path: Path, kind: str) -> None:
    assert write_fewer_bits(sources, tmp_path / "made.gguf", kind) is None
    quantize(sources.half, tmp_path / "plain.gguf", kind)
    made, plain = ((tmp_path / f"{name}.gguf").read_bytes() for name in ("made", "plain"))
    assert made == plain


def test_nothing_is_left_where_it_fails(sources: Sources, tmp_path: Path) -> None:
    (other := tmp_path / "other").mkdir()
    wrong = Sources(
        base=sources.base, lora=sources.base, half=sources.half, matrix=sources.matrix
    )  # fmt: skip
    with pytest.raises(ExportError, match="no LoRA adapter"):
        write_fewer_bits(wrong, other / "made.gguf", "Q4_K_M")
    assert not list(other.iterdir())


def test_an_export_says_where_the_matrix_was_used(
    version: AdapterVersion, base: Path, tmp_path: Path
) -> None:
    made = export(order(version, base, tmp_path / "out", kind="Q4_K_M"))
    assert made.survival is not None
    used, known = made.survival["matrix"]["used"], made.survival["matrix"]["known"]
    words = f"the importance matrix in {used} of {known} tensors"
    assert words in made.note
    assert words in (tmp_path / "out" / "README.md").read_text()
