"""An engine that counts words, for tests of what is put into a prompt."""

import re
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from flex_assist.engine.protocol import (
    Finished,
    GenerateRequest,
    ModelFacts,
    Piece,
    TextPiece,
    Weights,
)

WORD = re.compile(r"<\|\w+\|>|\w+|[^\w]")
CONTROL = re.compile(r"<\|\w+\|>")


class WordEngine:
    """One token a word or sign; ``<|…|>`` is one control token if special, else several."""

    def __init__(self) -> None:
        self.vocabulary: list[str] = ["<end>"]
        self.requests: list[GenerateRequest] = []
        self.answer = ("Here ", "it is.")
        self.chat_template: str | None = None
        self.context_tokens = 4096
        self.bos_id: int | None = None
        self.closed = 0

    def ids(self, text: str, special: bool) -> list[int]:
        found = []
        for word in WORD.findall(text):
            plain = CONTROL.fullmatch(word) and not special
            for part in [*word] if plain else [word]:
                if part not in self.vocabulary:
                    self.vocabulary.append(part)
                found.append(self.vocabulary.index(part))
        return found

    def text(self, tokens: Sequence[int]) -> str:
        return "".join(self.vocabulary[token] for token in tokens)

    async def facts(self, model: Path) -> ModelFacts:
        return ModelFacts(
            architecture="llama",
            context_tokens=self.context_tokens,
            vocabulary=1000,
            fim_ids=None,
            end_ids=(0,),
            bos_id=self.bos_id,
            chat_template=self.chat_template,
        )

    async def tokenize(self, model: Path, pieces: Sequence[TextPiece]) -> list[list[int]]:
        return [self.ids(piece.text, piece.special) for piece in pieces]

    async def generate(self, request: GenerateRequest) -> AsyncIterator[Piece | Finished]:
        self.requests.append(request)
        try:
            for text in self.answer:
                yield Piece(text=text)
            yield Finished(
                text="".join(self.answer),
                reason="end",
                prompt_tokens=len(request.tokens),
                reused_tokens=0,
                completion_tokens=50,
                queue_ms=0,
                prefill_ms=100,
                decode_ms=500,
            )
        finally:
            self.closed += 1

    async def warm(self, weights: Weights) -> None:
        self.warmed = weights

    async def status(self) -> dict[str, Any]:
        return {}

    async def close(self) -> None:
        return None


@pytest.fixture
def engine() -> WordEngine:
    return WordEngine()


@pytest.fixture
def project(tmp_path: Path) -> Callable[..., Path]:
    """Write a small folder of files: ``project({"a.py": "x = 1\\n"})``."""

    def write(files: dict[str, str | bytes]) -> Path:
        root = tmp_path / "project"
        root.mkdir(exist_ok=True)
        for name, content in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return root

    return write
