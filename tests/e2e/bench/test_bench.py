"""``bench train`` and ``bench optimizers`` through the real program, at test size."""

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(sys.executable).with_name("flex-assist")
FAILED, USAGE = 1, 2
# Other processes may be at work.
TIMEOUT_S = 280
FIGURES = {"tokens_per_s", "peak_memory_mb", "tokens", "seconds", "updates"}


def run(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    command = [str(PROGRAM), "bench", *(str(one) for one in arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, env={**os.environ}
    )


def answer(*arguments: str | Path) -> dict[str, Any]:
    done = run(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def refusal(code: int, *arguments: str | Path) -> str:
    """One message on standard error, nothing on standard output, no traceback."""
    done = run(*arguments)
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("flex-assist: ")
    return lines[0]


def test_train_compares_with_the_peer(small_repository: Path, one_layer_base: Path) -> None:
    found = answer(
        "train", small_repository, "--base", one_layer_base, "--documents", "16", "--length", "32",
        "--micro-batch", "1", "--checkpointing", "off", "--waiting", "passive",
    )  # fmt: skip
    for side in ("ours", "peer", "peer_packed"):
        assert set(found[side]) > FIGURES
        assert found[side]["tokens_per_s"] > 0
        assert found[side]["peak_memory_mb"] > 100
    # The same text on both sides: one update was counted.
    assert found["ours"]["tokens"] == found["peer"]["tokens"] <= 8 * 32
    assert found["ours"]["updates"] == found["peer"]["updates"] == 1
    assert (found["peer"]["micro_batch"], found["peer"]["checkpointing"]) == (1, False)
    assert found["peer_packed"]["packing"]
    assert not found["peer"]["packing"]
    ratio = found["ours"]["tokens_per_s"] / found["peer"]["tokens_per_s"]
    assert found["ratio"]["tokens_per_s"] == pytest.approx(ratio, abs=1e-3)
    assert set(found["ratio"]) == {"tokens_per_s", "tokens_per_s_packed", "peak_memory"}
    assert {cell["adapter_dtype"] for cell in found["grid"]} == {"float32", found["dtype"]}
    assert all(cell["error"] is None for cell in found["grid"])
    assert found["documents"] == 16
    assert found["base_model"] == "starter-1"


def test_optimizers_are_compared(
    small_repository: Path, one_layer_base: Path, tmp_path: Path
) -> None:
    picture = tmp_path / "curves.svg"
    found = answer(
        "optimizers", small_repository, "--base", one_layer_base, "--seconds", "1", "--seeds", "2",
        "--rates", "1", "--batch-tokens", "64", "--overhead-steps", "2", "--svg", picture,
    )  # fmt: skip
    assert [(one["optimizer"], one["seed"]) for one in found["arms"]] == [
        ("sophia", 1), ("adamw", 1), ("sophia", 2), ("adamw", 2),
    ]  # fmt: skip
    for one in found["arms"]:
        assert set(one) >= {"optimizer", "lr", "seed", "seconds", "held_out_bits_per_byte"}
        # It learns, and the curve ends where the run does.
        assert one["curve"][0][1] > one["held_out_bits_per_byte"] > 0
        assert one["curve"][-1] == [one["seconds"], one["held_out_bits_per_byte"]]
    # The same base and the same windows: all start alike.
    assert len({one["curve"][0][1] for one in found["arms"]}) == 1
    assert len(found["tuning"]) == 2
    assert set(found["overhead"]) == {"hessian", "spectral"}
    assert found["verdict"].endswith(".")
    low, high = found["difference"]["ci95"]
    assert low <= found["difference"]["mean"] <= high
    assert ElementTree.parse(picture).getroot().tag.endswith("svg")


def test_bad_input_is_told_at_once(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no source code" in refusal(FAILED, "train", empty)
    assert "source code" in refusal(FAILED, "optimizers", empty)
    for command in ("train", "optimizers"):
        assert "is not a folder" in refusal(FAILED, command, tmp_path / "absent")
    assert "--svg" in refusal(USAGE, "optimizers", "--svg", tmp_path / "absent" / "a.svg")
    assert "--svg" in refusal(USAGE, "optimizers", "--svg", empty)
    assert "'wings'" in refusal(USAGE, "optimizers", "--regularizer", "wings")
    assert "'wings'" in refusal(USAGE, "train", "--checkpointing", "wings")
    assert "'wings'" in refusal(USAGE, "train", "--waiting", "wings")
    assert "--micro-batch 3" in refusal(USAGE, "train", "--micro-batch", "3")
