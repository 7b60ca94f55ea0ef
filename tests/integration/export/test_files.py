"""What a version's files hold, and what is refused before it is published."""

import asyncio
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flex_assist import __version__
from flex_assist.config import EngineSettings
from flex_assist.engine import quantize
from flex_assist.engine.llama import Model
from flex_assist.engine.local import LocalEngine
from flex_assist.engine.protocol import Weights
from flex_assist.errors import ExportError
from flex_assist.files import digest
from flex_assist.models.gguf_file import field, open_gguf, tensor_values
from flex_assist.models.merging import write_merged
from flex_assist.models.quantized import F16, write_model
from flex_assist.models.survival import MOST_NUMBERS, stored_updates, survival
from flex_trainer import agreement, export, lora
from flex_trainer.export import Origin
from flex_trainer.lora import Masters

from .conftest import FIM, TEMPLATE, TEXTS, byte_letters, write_base

Written = tuple[Path, dict[str, Any]]


def values(path: Path) -> dict[str, np.ndarray]:
    return {tensor.name: tensor_values(tensor) for tensor in open_gguf(path).tensors}


def test_all_files_and_what_is_said_of_them(written: Written) -> None:
    folder, details = written
    assert {path.name for path in folder.iterdir()} == {
        "adapter.gguf", "adapter_config.json", "adapter_model.safetensors", "imatrix.gguf",
        "merged-q8_0.gguf",
    }  # fmt: skip
    form = details["forms"]["merged-q8_0.gguf"]
    assert form["type"] == "Q8_0"
    assert form["kept"]
    assert form["bytes"] == (folder / "merged-q8_0.gguf").stat().st_size
    assert 0.9 <= form["survival"]["min"] <= form["survival"]["mean"] <= 1
    assert form["survival"]["tensor"].startswith("blk.")
    assert set(details["seconds"]) == {"lora", "merged", "imatrix"}
    assert details["imatrix_tokens"] == 2560


def test_the_merged_file_is_base_plus_update(
    written: Written, base: Path, adapted: Any, origin: Origin
) -> None:
    merged = values(written[0] / "merged-q8_0.gguf")
    before, updates = values(base), stored_updates(written[0] / "adapter.gguf")
    assert len(updates) == 14
    for name, update in updates.items():
        wanted = before[name] + update.b @ update.a
        assert np.abs(merged[name] - wanted).max() < np.abs(wanted).max() / 127
    modules = lora.as_arrays(adapted, Masters.of(adapted))
    module = modules["model.layers.1.mlp.down_proj"]
    update = updates["blk.1.ffn_down.weight"]
    np.testing.assert_allclose(update.b @ update.a, module.scale * module.b @ module.a, atol=1e-6)


def test_where_it_comes_from(written: Written, base: Path, origin: Origin) -> None:
    reader = open_gguf(written[0] / "merged-q8_0.gguf")
    keys = {name: field(reader, name) for name in reader.fields if name.startswith("flex_assist.")}
    assert keys == {
        "flex_assist.version": __version__,
        "flex_assist.base.name": "tiny",
        "flex_assist.base.sha256": digest(base),
        "flex_assist.adapter.name": "python",
        "flex_assist.adapter.version": origin.version,
        "flex_assist.adapter.sha256": digest(written[0] / "adapter.gguf"),
    }
    assert field(reader, "general.name") == "tiny + python"
    assert field(reader, "tokenizer.chat_template") == TEMPLATE
    text = (written[0] / "merged-q8_0.gguf").read_bytes()
    assert str(base.parent).encode() not in text
    assert TEXTS[0][:20].encode() not in text


def test_llama_cpp_finds_the_infilling_tokens_and_stops(written: Written, base: Path) -> None:
    before = Model.load(base, vocab_only=True).facts()
    after = Model.load(written[0] / "merged-q8_0.gguf", vocab_only=True).facts()
    assert before.fim_ids is None
    assert after.fim_ids == (FIM.prefix_id, FIM.suffix_id, FIM.middle_id)
    assert FIM.end_id not in before.end_ids
    assert set(after.end_ids) == {*before.end_ids, FIM.end_id}


def test_survival_of_each_form(written: Written, base: Path, tmp_path: Path) -> None:
    adapter, half = written[0] / "adapter.gguf", tmp_path / "half.gguf"
    write_merged(base, adapter, half, FIM, kind=F16)
    kept = {"F16": survival(base, adapter, half).mean}
    for kind in ("Q8_0", "Q6_K", "Q4_0"):
        quantize.quantize(half, tmp_path / f"{kind}.gguf", kind)
        kept[kind] = survival(base, adapter, tmp_path / f"{kind}.gguf").mean
    assert kept["F16"] >= 0.99
    assert kept["F16"] > kept["Q8_0"] > kept["Q6_K"] > kept["Q4_0"]
    # By hand, of one tensor.
    before, after = values(base), values(tmp_path / "Q4_0.gguf")
    found = survival(base, adapter, tmp_path / "Q4_0.gguf")
    update = stored_updates(adapter)[found.tensor]
    assert update.b.shape[0] * update.a.shape[1] <= MOST_NUMBERS
    wanted, got = (
        (update.b @ update.a).ravel(),
        (after[found.tensor] - before[found.tensor]).ravel(),
    )
    cosine = wanted @ got / np.linalg.norm(wanted) / np.linalg.norm(got)
    assert found.least == pytest.approx(float(cosine), abs=1e-4)


def test_a_base_in_four_bits_is_served_in_eight(
    adapted: Any, base: Path, written: Written, tmp_path: Path
) -> None:
    four = tmp_path / "four.gguf"
    quantize.quantize(base, four, "Q4_0")
    write_merged(four, written[0] / "adapter.gguf", tmp_path / "merged.gguf", FIM)
    kinds = {t.tensor_type.name for t in open_gguf(tmp_path / "merged.gguf").tensors}
    assert kinds == {"Q8_0", "F32"}
    assert survival(four, written[0] / "adapter.gguf", tmp_path / "merged.gguf").mean > 0.9


def test_files_that_do_not_belong_together(written: Written, base: Path, tmp_path: Path) -> None:
    folder = written[0]
    zero = tmp_path / "zero.gguf"
    write_model(base, zero, kind=F16)
    assert survival(base, folder / "adapter.gguf", zero).mean == 0
    with pytest.raises(ExportError, match="is no LoRA adapter"):
        survival(base, zero, zero)
    with pytest.raises(ExportError, match="are not of the base"):
        survival(folder / "adapter.gguf", folder / "adapter.gguf", zero)


def test_a_merged_file_that_has_lost_the_update_is_not_kept(
    adapted: Any, origin: Origin, tmp_path: Path
) -> None:
    masters = Masters.of(adapted)
    masters.shrink(1e-2)
    try:
        details = export.write_files(adapted, masters, origin, tmp_path)
    finally:
        masters.shrink(1e2)
    form = details["forms"]["merged-q8_0.gguf"]
    assert form["survival"]["mean"] < 0.9
    assert not form["kept"]
    assert (tmp_path / "adapter.gguf").is_file()
    assert not (tmp_path / "merged-q8_0.gguf").exists()


def test_where_the_base_is_spread_there_is_no_importance_matrix(
    adapted: Any, origin: Origin, tmp_path: Path
) -> None:
    details = export.write_files(adapted, Masters.of(adapted), replace(origin, texts=()), tmp_path)
    assert details["imatrix_tokens"] == 0
    assert not (tmp_path / "imatrix.gguf").exists()


def agreed(served: Path, adapter: Path | None, merged: Path) -> dict[str, Any]:
    engine = LocalEngine(EngineSettings(threads=1))
    windows = [list(text.encode()) for text in TEXTS]

    async def run() -> dict[str, Any]:
        try:
            first = Weights(model=served, adapters=(adapter,) if adapter else ())
            return await agreement.agreement(engine, first, Weights(model=merged), windows)
        finally:
            await engine.close()

    return asyncio.run(run())


def test_the_merged_file_says_what_base_and_adapter_say(written: Written, base: Path) -> None:
    folder = written[0]
    found = agreed(base, folder / "adapter.gguf", folder / "merged-q8_0.gguf")
    assert found["windows"] == 2
    assert abs(found["lora_nats"] - found["merged_nats"]) < 0.05
    assert found["same_greedy_answers"] >= 1


def test_a_merged_file_that_says_something_else_is_refused(
    written: Written, base: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.gguf"
    write_base(other, seed=5)
    with pytest.raises(ExportError, match="nats a token of code not trained on"):
        agreed(base, written[0] / "adapter.gguf", other)
    write_base(other, letters=byte_letters()[::-1])
    with pytest.raises(ExportError, match=r"the merged file takes .* for the tokens"):
        agreed(base, None, other)


@pytest.mark.parametrize("long", [True, False])
def test_a_merged_file_is_kept_only_if_it_was_checked(
    written: Written, base: Path, tmp_path: Path, long: bool
) -> None:
    folder = shutil.copytree(written[0], tmp_path / "version")
    exported: dict[str, Any] = {"forms": {"merged-q8_0.gguf": {"kept": True}}}
    engine = LocalEngine(EngineSettings(threads=1))
    # The first ones are too short to tell anything; a later one is not.
    texts = ["package de.company.eng;", "x = 1", "", *(TEXTS if long else ())]

    async def run() -> None:
        try:
            await agreement.check_merged(
                engine, base, folder, texts, lambda text: list(text.encode()), exported
            )
        finally:
            await engine.close()

    asyncio.run(run())
    assert exported["agreement"]["windows"] == (2 if long else 0)
    form = exported["forms"]["merged-q8_0.gguf"]
    assert form["kept"] == (folder / "merged-q8_0.gguf").exists() == long
    assert long or "no held-out file" in form["reason"]
    assert (folder / "adapter.gguf").is_file()
