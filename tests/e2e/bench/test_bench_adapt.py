"""``bench adapt`` through the real program: two runs of ``adapt`` on copies, and both controls."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

PROGRAM = Path(sys.executable).with_name("flex-assist")
FILES = 24


def test_both_controls_are_measured_and_nothing_is_left(
    tmp_path: Path, one_layer_base: Path, write_files: Callable[..., Path]
) -> None:
    right = write_files(tmp_path / "right", FILES, first=0)
    wrong = write_files(tmp_path / "wrong", FILES, first=100)
    home = Path(os.environ["FLEX_ASSIST_HOME"])
    (home / "config").mkdir(parents=True)
    # The user's settings count in the home that is thrown away.
    (home / "config" / "config.toml").write_text("[training]\nsteps = 8\n")
    before = {path: path.read_bytes() for path in right.iterdir()}
    done = subprocess.run(
        [
            PROGRAM, "bench", "adapt", right, "--other", wrong, "--budget", "20s",
            "--base", one_layer_base, "--json",
        ],
        capture_output=True, text=True, timeout=280, check=False,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    (control,) = found["languages"].values()
    bits = control["bits_per_byte"]
    # Both learnt: texts are alike; only the right one knows these names.
    assert bits["right"] < bits["base"]
    low, high = control["right_less_wrong_ci95"]
    assert low <= bits["right"] - bits["wrong"] <= high
    assert control["holds"] == (high < 0)
    assert control["windows"] > 0
    canary = found["canary"]
    assert canary["holds"] == (canary["gain_nats"] <= 0 or canary["z"] < 2)
    assert 1 <= canary["rank"] <= canary["keys"] == 51
    assert found["holds"] == (control["holds"] and canary["holds"])
    assert found["verdict"].endswith(".")
    # The copies and the home are gone, and the repository is as before.
    assert not list(tmp_path.glob("flex-assist-bench-*"))
    assert {path: path.read_bytes() for path in right.iterdir()} == before
    assert not (home / "data" / "adapters").exists()


def test_nothing_is_left_when_it_is_terminated(
    tmp_path: Path, one_layer_base: Path, write_files: Callable[..., Path]
) -> None:
    right = write_files(tmp_path / "right", FILES)
    command = [PROGRAM, "bench", "adapt", right, "--budget", "60s", "--base", one_layer_base]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as process:  # fmt: skip
        while not list(tmp_path.glob("flex-assist-bench-*/*")):
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 130
    assert not list(tmp_path.glob("flex-assist-bench-*"))
