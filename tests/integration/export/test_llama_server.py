"""A merged file in llama.cpp's server, which editor plug-ins and others speak to."""

import importlib.util
import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

SERVER = Path(__file__).with_name("llama_server.py")
Ask = Callable[[str, dict[str, Any]], dict[str, Any]]


@pytest.fixture(scope="module")
def ask(written: tuple[Path, dict[str, Any]]) -> Iterator[Ask]:
    if importlib.util.find_spec("xllamacpp") is None:
        pytest.skip("xllamacpp, which brings llama.cpp's server, is not installed")
    process = subprocess.Popen(
        [sys.executable, str(SERVER), str(written[0] / "merged-q8_0.gguf")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        assert process.stdout is not None
        address = next(line for line in process.stdout if line.startswith("http")).strip()

        def post(path: str, body: dict[str, Any]) -> dict[str, Any]:
            request = urllib.request.Request(
                address + path,
                data=json.dumps(body).encode(),
                headers={"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request, timeout=60) as answer:
                return dict(json.loads(answer.read()))

        yield post
        process.kill()


def test_infilling(ask: Ask) -> None:
    body = {
        "input_prefix": "def f(x):\n    ", "input_suffix": "\n", "n_predict": 4, "temperature": 0,
    }  # fmt: skip
    answer = ask("/infill", body)
    assert answer["tokens_predicted"] >= 1
    assert "<pre>" in answer["prompt"]
    assert "<suf>" in answer["prompt"]
    assert "<mid>" in answer["prompt"]


def test_chat(ask: Ask) -> None:
    body = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 4, "temperature": 0}
    answer = ask("/v1/chat/completions", body)
    assert answer["choices"][0]["message"]["role"] == "assistant"
    assert answer["usage"]["completion_tokens"] >= 1
    # The template of the file was used: its text, three control tokens in it, and not another's.
    assert answer["usage"]["prompt_tokens"] == len("user\nhello") + len("\nassistant") + 3
