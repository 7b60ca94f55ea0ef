"""``bench latency`` through the real program: our host and llama.cpp's server, a short trace."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from flex_lsp.bench.trace import Key, Trace, TracedEdit, TracedFile, write

PROGRAM = Path(sys.executable).with_name("flex-assist")
TIMEOUT_S = 280
SIDE = {
    "p50_ms", "p95_ms", "p99_ms", "shown_p50_ms", "shown_p95_ms", "shown_p99_ms", "model_calls",
    "cache_hits", "tokens_computed", "cpu_s", "accepted_characters", "accepted_characters_per_s",
}  # fmt: skip


def run(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    command = [str(PROGRAM), "bench", "latency", *(str(one) for one in arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, env={**os.environ}
    )


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files of two languages, an edit of each, with pauses in which a slow machine answers."""
    path = tmp_path_factory.mktemp("trace") / "trace.json"
    texts = ("def first(items):\n    return items[0]\n", "function last(items) {\n  return 1;\n}\n")
    files = tuple(
        TracedFile(path=name, language_id=language, text=text)
        for name, language, text in zip(
            ("a.py", "b.js"), ("python", "javascript"), texts, strict=True
        )
    )
    edits = tuple(
        TracedEdit(
            file=number, offset=len(texts[number]), delete=0, pause_ms=50,
            keys=(Key(text="\n", pause_ms=40), Key(text="x", pause_ms=4000)),
        )
        for number in range(2)
    )  # fmt: skip
    write(Trace(name="two edits", files=files, edits=edits), path)
    return path


@pytest.fixture(scope="module")
def found(trace: Path, cut_starter: Callable[[int], Path]) -> dict[str, Any]:
    if importlib.util.find_spec("xllamacpp") is None:
        pytest.skip("llama.cpp's server is not installed: pip install xllamacpp")
    done = run("--model", cut_starter(1), "--trace", trace, "--threads", "1", "--json")
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_both_sides_are_measured(found: dict[str, Any]) -> None:
    for side in (found["ours"], found["peer"]):
        assert set(side) > SIDE
        assert side["model_calls"] >= 2
        assert side["tokens_computed"] >= 10
        assert 0 < side["p50_ms"] <= side["p95_ms"] <= side["p99_ms"]
        assert side["cpu_s"] > 0.01
        assert side["keys"] == 4
        # Eight seconds of pauses, and what a busy machine adds.
        assert side["seconds"] >= 8
    assert found["trace"]["languages"] == ["javascript", "python"]
    assert found["trace"]["characters"] == 4


def test_ratios_are_of_the_figures(found: dict[str, Any]) -> None:
    ours, peer, ratio = found["ours"], found["peer"], found["ratio"]
    assert set(ratio) == {"p50", "p95", "cpu", "accepted_characters"}
    assert ratio["p50"] == pytest.approx(ours["p50_ms"] / peer["p50_ms"], abs=1e-3)
    assert ratio["p95"] == pytest.approx(ours["p95_ms"] / peer["p95_ms"], abs=1e-3)
    assert ratio["cpu"] == pytest.approx(ours["cpu_s"] / peer["cpu_s"], abs=1e-3)
    assert isinstance(found["switch_p95_ms"], float)


def hosts_below(folder: Path) -> list[int]:
    """Engine hosts whose home is in a folder."""
    found = psutil.process_iter(["cmdline"])
    return [
        one.pid
        for one in found
        if str(folder) in " ".join(one.info["cmdline"] or [])
        and "flex_assist.engine.host" in one.info["cmdline"]
    ]


def test_nothing_is_left_when_it_is_terminated(
    trace: Path, cut_starter: Callable[[int], Path], tmp_path: Path
) -> None:
    command = [PROGRAM, "bench", "latency", "--model", cut_starter(1), "--trace", trace]
    with subprocess.Popen(
        [*command, "--no-peer"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as process:  # fmt: skip
        log = "flex-latency-*/cache/engine.log"
        while not any("serves at" in one.read_text() for one in tmp_path.glob(log)):
            assert process.poll() is None
            time.sleep(0.1)
        assert hosts_below(tmp_path)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 130
    # It has said goodbye to its clients, and ends.
    end_s = time.monotonic() + 10
    while hosts_below(tmp_path):
        assert time.monotonic() < end_s
        time.sleep(0.1)
    assert not list(tmp_path.glob("flex-latency-*"))


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--model", "no.gguf", "--no-peer"), 2, "no.gguf"),
        (("--repo", "{empty}", "--no-peer"), 2, "--model"),
        (("--trace", "{broken}", "--no-peer"), 1, "typing trace"),
    ],
)
def test_a_mistake_is_one_message(
    arguments: tuple[str, ...], code: int, words: str, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text('{"files": []}')
    done = run(*(one.format(empty=tmp_path, broken=broken) for one in arguments))
    assert done.returncode == code, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1
    assert words in lines[0]
    assert done.stdout == ""
