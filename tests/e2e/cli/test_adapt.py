"""The main job on the starter model, as a user does it: adapt, complete, forget."""

import html
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = str(Path(sys.executable).parent / "flex-assist")
LANGUAGE_KEYS = {
    "files",
    "train_tokens",
    "held_out_files",
    "bits_per_byte",
    "exact_match",
    "verdict",
    "reason",
    "adapter",
}
RESULT_KEYS = {
    "repository",
    "base_model",
    "seconds",
    "languages",
    "peak_memory_mb",
    "optimizer",
    "regularizer",
    "plan",
}
ADAPTED = ("--steps", "8", "--budget", "50s")
EVENT_KEYS = {"phase", "language", "step", "steps", "loss", "tokens_per_s", "eta_s", "note"}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def repository(tmp_path_factory, copy_core):
    """This project's core, as a repository of its own."""
    return copy_core(tmp_path_factory.mktemp("repository") / "core")


@pytest.fixture(autouse=True)
def one_home(home, monkeypatch):
    monkeypatch.setenv("FLEX_ASSIST_HOME", str(home))


def run(*arguments: str, timeout_s: float = 280) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, *arguments], capture_output=True, text=True, timeout=timeout_s, check=False
    )


def events(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


@pytest.fixture(scope="module")
def adapted(home, repository):
    environment = {**os.environ, "FLEX_ASSIST_HOME": str(home)}
    command = [PROGRAM, "adapt", str(repository), *ADAPTED, "--json"]
    done = subprocess.run(
        [*command, "--progress", "json"],
        capture_output=True,
        text=True,
        env=environment,
        timeout=280,
        check=False,
    )
    assert done.returncode in (0, 3), done.stderr
    return json.loads(done.stdout), events(done.stderr), done.returncode


def test_adapt_says_what_it_did(adapted):
    result, told, code = adapted
    assert set(result) >= RESULT_KEYS
    python = result["languages"]["python"]
    assert set(python) >= LANGUAGE_KEYS
    assert python["bits_per_byte"]["adapted"] < python["bits_per_byte"]["base"]
    low, high = python["bits_per_byte"]["ci95"]
    assert low <= high
    assert code == (0 if python["verdict"] == "promoted" else 3)
    assert result["peak_memory_mb"] > 100
    assert all(set(event) == EVENT_KEYS for event in told)
    phases = [event["phase"] for event in told]
    assert phases[0] == "mine"
    assert phases[-1] == "done"
    steps = [event["step"] for event in told if event["phase"] == "train"]
    assert steps == list(range(1, len(steps) + 1))


def test_the_version_is_whole_and_explains_itself(adapted, repository):
    result, _, _ = adapted
    version = result["languages"]["python"]["adapter"]
    if version is None:
        pytest.skip("the adapter did not beat the base in this short run: " + str(result))
    shown = run("adapters", "show", version, "--repo", str(repository), "--json")
    record = json.loads(shown.stdout)
    folder = Path(record["folder"])
    names = {path.name for path in folder.iterdir()}
    merged = record["details"]["export"]["forms"]["merged-q8_0.gguf"]
    assert merged["kept"] == (merged["survival"]["mean"] >= 0.9)
    assert names == {
        "adapter.gguf",
        "adapter_config.json",
        "adapter_model.safetensors",
        "imatrix.gguf",
        "manifest.json",
        "report.html",
    } | ({"merged-q8_0.gguf"} if merged["kept"] else set())
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    # The report shows the digests, and so has none of its own.
    assert set(record["artefacts"]) == names - {"manifest.json", "report.html"}
    splits = {entry["verdict"] for entry in record["data"]}
    assert splits == {"train", "held-out", "skip"} or splits == {"train", "held-out"}
    assert record["details"]["recipe"]["optimizer"] == "sophia"
    listed = json.loads(run("adapters", "list", "--repo", str(repository), "--json").stdout)
    assert [one["active"] for one in listed["adapters"]] == [True]


def test_the_routes_are_told(adapted, repository):
    result, told, _ = adapted
    assert "route" in {event["phase"] for event in told}
    shown = run("adapters", "route", "--repo", str(repository), "--json")
    (route,) = json.loads(shown.stdout)["routes"]
    assert set(route) >= {"language", "choice", "reason", "candidates"}
    promoted = result["languages"]["python"]["adapter"] is not None
    assert (route["language"], route["choice"]) == ("python", "python" if promoted else "base")
    assert all(set(one) >= {"name", "bits_per_byte"} for one in route["candidates"])
    assert [one["name"] for one in route["candidates"]] == ["base", *["python"] * promoted]
    if promoted:
        assert all(one["bits_per_byte"] > 0 for one in route["candidates"])
        # On a slow machine there is no time to compare.
        assert "held-back" in route["reason"] or "not compared" in route["reason"]
    other = run("adapters", "route", "--repo", str(repository), "--language", "ruby", "--json")
    assert json.loads(other.stdout)["routes"][0]["choice"] == "base"
    table = run("adapters", "route", "--repo", str(repository)).stdout
    assert table.startswith("language")
    assert route["reason"] in table


def test_the_report_shows_what_the_manifest_does_not_keep(adapted, repository):
    result, _, _ = adapted
    if result["languages"]["python"]["adapter"] is None:
        pytest.skip("the adapter did not beat the base in this short run: " + str(result))
    shown = run("adapters", "show", "python", "--repo", str(repository), "--report")
    page = Path(shown.stdout.rstrip("\n"))
    text = page.read_text(encoding="utf-8")
    record = json.loads((page.parent / "manifest.json").read_text())
    base = record["metrics"]["bits_per_byte"]["base"]
    assert f'<data value="{base}">{base:.3f}</data>' in text
    assert all(html.escape(entry["path"]) in text for entry in record["data"])
    assert text.count('<article class="example">') == min(12, record["metrics"]["spans"])
    (first, *_) = re.findall(
        r"<h4>What was there</h4>\n<pre><code>(.*?)</code></pre>", text, re.DOTALL
    )
    held_out = [entry["path"] for entry in record["data"] if entry["verdict"] == "held-out"]
    assert any(html.unescape(first) in (repository / path).read_text() for path in held_out)
    assert "examples" not in record["metrics"]
    assert str(repository) not in text


def test_completions_take_the_adapter_of_the_language(adapted, repository):
    result, _, _ = adapted
    place = f"{repository / 'errors.py'}:30:1"
    done = run("complete", place, "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    promoted = result["languages"]["python"]["verdict"] == "promoted"
    assert answer["adapter"] == ("python" if promoted else "base")
    assert set(answer["timings_ms"]) == {"context", "queue", "prefill", "decode", "trim", "total"}
    route = json.loads(run("adapters", "route", "--repo", str(repository), "--json").stdout)
    assert answer["reason"] == route["routes"][0]["reason"]
    assert answer["form"] in (("adapter", "merged") if promoted else ("base",))
    told = run("complete", place, "--json", "--explain", "--adapter", "none")
    base = json.loads(told.stdout)
    assert (base["adapter"], base["form"]) == ("base", "base")
    parts = base["explanation"]["parts"]
    # The engine counts without what it takes off for healing.
    asked = base["prompt_tokens"]
    assert 0 < asked <= sum(part["tokens"] for part in parts) <= asked + 8
    chunks = base["explanation"]["chunks"]
    assert chunks
    assert all((repository / chunk["path"]).is_file() for chunk in chunks)
    assert answer["prompt_tokens"] > 0


def test_the_engine_host_can_be_seen_and_stopped(adapted):
    assert json.loads(run("engine", "status", "--json").stdout)["running"] is True
    assert json.loads(run("engine", "stop", "--json").stdout) == {"stopped": True}
    assert json.loads(run("engine", "status", "--json").stdout)["running"] is False


# Last of this file: what the others look at is gone afterwards.
def test_a_forgotten_file_is_gone_and_it_is_shown(adapted, repository, home):
    result, _, _ = adapted
    if result["languages"]["python"]["adapter"] is None:
        pytest.skip("the adapter did not beat the base in this short run: " + str(result))
    shown = run("adapters", "show", "python", "--repo", str(repository), "--json")
    records = json.loads(shown.stdout)["data"]
    learnt = next(r["path"] for r in records if r["verdict"] == "train" and "/" in r["path"])
    done = run("adapters", "forget", learnt, "--repo", str(repository), "--no-train", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["paths"] == [learnt]
    assert [one["name"] for one in told["traces"]].count("python") >= 1
    assert told["proof"]["holds"]
    assert told["proof"]["lines"] > 0
    before, after = told["proof"]["bits_per_byte"]
    assert before["python"] < before["base"] == after["base"]
    assert not list((home / "data/adapters").glob("*/*/*/adapter.gguf"))
    again = run("adapt", str(repository), "--dry-run", "--json")
    verdicts = {one["path"]: one for one in json.loads(again.stdout)["files"]}
    assert (verdicts[learnt]["verdict"], verdicts[learnt]["rule"]) == ("skip", "forgotten")
    answer = run("complete", f"{repository / learnt}:1:1", "--json")
    assert json.loads(answer.stdout)["adapter"] == "base"
