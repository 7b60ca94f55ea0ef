"""Choosing the peer's best, medians, ratios, and what goes into an update."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flex_assist.config import Settings
from flex_assist.errors import ConfigError, DataError, MissingExtraError
from flex_trainer.bench import arm as arms
from flex_trainer.bench import train as bench_train
from flex_trainer.bench.arm import Arm, ArmError, Cell, Measurement, best, middle, ratios, shape
from flex_trainer.bench.clock import Clock, utilization
from flex_trainer.bench.documents import LEAST_TOKENS, pieces, root_of
from flex_trainer.bench.train import TrainBench, check_micro_batches, compare, whole_updates

ARM = Arm(
    side="peer", base="base.gguf", documents="documents.json", count=16, length=512,
    dtype="bfloat16", device="cpu",
)  # fmt: skip


def measured(tokens_per_s: float, peak_memory_mb: float = 1000.0) -> Measurement:
    return Measurement(
        tokens_per_s=tokens_per_s, peak_memory_mb=peak_memory_mb, tokens=10, seconds=1.0, updates=1
    )


def test_the_best_is_the_fastest_that_worked() -> None:
    slow, fast = Cell(arm=ARM, found=measured(10)), Cell(arm=ARM, found=measured(20))
    failed = Cell(arm=ARM, error="no memory")
    assert best([failed, slow, fast]) is fast
    with pytest.raises(ArmError, match="no memory"):
        best([failed, failed])
    assert failed.record()["tokens_per_s"] is None
    assert fast.record()["tokens_per_s"] == 20


def test_medians_are_of_speed_and_of_memory() -> None:
    found = middle([measured(10, 300), measured(30, 100), measured(20, 200)])
    assert (found.tokens_per_s, found.peak_memory_mb) == (20, 200)
    assert found.model_flop_utilization is None
    known = replace(measured(10), model_flop_utilization=0.25)
    assert middle([known]).model_flop_utilization == 0.25


def test_ratios_are_ours_over_theirs() -> None:
    found = ratios(measured(300, 800), measured(200, 1000), measured(250, 900))
    assert found == {"tokens_per_s": 1.5, "tokens_per_s_packed": 1.2, "peak_memory": 0.8}


def test_an_arm_says_what_it_is() -> None:
    assert replace(ARM, side="ours").describe() == "ours"
    packed = replace(ARM, micro_batch=2, checkpointing=True, packing=True)
    assert (
        packed.describe()
        == "peer, micro-batch 2, checkpointing on, float32 adapter, packed, passive waiting"
    )


def test_a_process_that_fails_gives_its_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arms, "WORKER", "flex_trainer.bench.nothing")
    cell = arms.try_out(ARM)
    assert cell.found is None
    assert "peer, micro-batch 1" in str(cell.error)
    assert "No module named" in str(cell.error)


def test_the_environment_is_the_arms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    passive = arms._environment(ARM, "folder")
    assert (passive["OMP_WAIT_POLICY"], passive["HF_HUB_OFFLINE"]) == ("passive", "1")
    assert passive["TMPDIR"] == passive["HF_HOME"] == "folder"
    assert "OMP_WAIT_POLICY" not in arms._environment(replace(ARM, waiting="default"), "folder")


def test_the_grid_goes_on_with_what_was_faster(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    speeds = {"float32": 1.0, "bfloat16": 2.0, "passive": 0.0, "default": 1.0}

    def pretended(arm: Arm) -> Cell:
        speed = speeds[arm.adapter_dtype] + speeds[arm.waiting] + arm.micro_batch
        return Cell(arm=arm, found=measured(speed))

    monkeypatch.setattr(bench_train, "_tried", pretended)
    options = TrainBench(
        root=tmp_path, documents=16, length=64, repeats=1, micro_batches=(1, 2, 8),
        checkpointing=(False, True), waiting=("passive", "default"),
    )  # fmt: skip
    cells = bench_train._explore(options, ARM)
    assert len(cells) == 3 + 5
    chosen = best(cells).arm
    assert (chosen.adapter_dtype, chosen.waiting, chosen.micro_batch) == ("bfloat16", "default", 8)
    assert all(cell.arm.waiting == "default" for cell in cells[3:])


def test_pieces_lose_nothing_but_short_rests() -> None:
    text = "x" * (3 * 100 + LEAST_TOKENS - 1)
    found = pieces([text, "y" * 50, ""], lambda text: [ord(c) for c in text], 100)
    assert sorted(map(len, found)) == [50, 100, 100, 100]
    assert found == pieces([text, "y" * 50], lambda text: [ord(c) for c in text], 100)


def test_documents_are_whole_updates() -> None:
    documents = [(1,)] * 30
    assert len(whole_updates(documents, 88)) == 24
    assert len(whole_updates(documents, 17)) == 16
    with pytest.raises(DataError, match="there are 15 documents and 16 are needed"):
        whole_updates(documents, 15)


def test_a_repository_is_a_folder(tmp_path: Path) -> None:
    assert (root_of(None) / "errors.py").is_file()
    assert root_of(tmp_path) == tmp_path.resolve()
    with pytest.raises(DataError, match="is not a folder"):
        root_of(tmp_path / "absent")


@pytest.mark.parametrize("size", [0, 3, 16, -1])
def test_a_micro_batch_divides_an_update(size: int) -> None:
    check_micro_batches([1, 2, 4, 8])
    with pytest.raises(ConfigError, match="does not divide"):
        check_micro_batches([size])


def test_without_the_peer_the_install_command_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "trl", None)
    options = TrainBench(
        root=tmp_path, documents=16, length=64, repeats=1, micro_batches=(1,),
        checkpointing=(False,), waiting=("passive",),
    )  # fmt: skip
    with pytest.raises(MissingExtraError, match=r"\.whl\[peers\]'"):
        compare(options, Settings())


def test_utilization_is_a_share_of_a_known_peak() -> None:
    assert utilization(1e5, 10**9, "NVIDIA H100 80GB HBM3") == pytest.approx(0.4044, abs=1e-4)
    assert utilization(1e5, 10**9, "NVIDIA H100 PCIe") > 0.5  # type: ignore[operator]
    assert utilization(1e5, 10**9, "Imaginary 1") is None


def test_a_clock_leaves_the_first_update_out(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from flex_trainer.bench import clock

    times = iter([5.0, 6.0, 9.0])
    monkeypatch.setattr(clock.time, "perf_counter", lambda: next(times))
    one = Clock(torch.device("cpu"))
    for _ in range(3):
        one.mark()
    found = one.measured([1000, 30, 50], None)
    assert (found.tokens, found.seconds, found.tokens_per_s, found.updates) == (80, 4.0, 20.0, 2)
    with pytest.raises(ValueError, match="updates were timed"):
        one.measured([1000, 30], None)


def test_packed_updates_are_about_as_large() -> None:
    lengths = [450] * 16
    assert shape(ARM, lengths) == (1, 8)
    assert shape(replace(ARM, micro_batch=8), lengths) == (8, 1)
    assert shape(replace(ARM, packing=True), lengths) == (1, 7)
    assert shape(replace(ARM, packing=True, micro_batch=8), lengths) == (7, 1)


def test_help_of_both(monkeypatch: pytest.MonkeyPatch) -> None:
    from flex_assist.cli.main import build

    for name in ("train", "optimizers"):
        result = CliRunner().invoke(build(), ["bench", name, "--help"], env={"COLUMNS": "100"})
        assert result.exit_code == 0
        assert "Usage:" in result.output
