"""Vocabularies of model files, apart from the weights: they answer while a model loads or works."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from flex_assist.engine.gguf_header import FileState, file_state
from flex_assist.engine.protocol import ModelFacts, TextPiece

if TYPE_CHECKING:
    from flex_assist.engine.llama import Model

VOCABULARIES: Final = 4


class Vocabularies:
    """The vocabularies used last. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._models: dict[FileState, Model] = {}
        self._facts: dict[FileState, ModelFacts] = {}

    def facts(self, path: Path) -> ModelFacts:
        """Facts of a model file."""
        with self._lock:
            key, model = self._model(path)
            if key not in self._facts:
                self._facts[key] = model.facts()
            return self._facts[key]

    def tokenize(self, path: Path, pieces: Sequence[TextPiece]) -> list[list[int]]:
        """Token ids of each piece."""
        with self._lock:
            _, model = self._model(path)
            return [model.tokenize(piece.text, piece.special) for piece in pieces]

    def spell(self, path: Path, tokens: Sequence[int], control: bool = False) -> list[bytes]:
        """What each token stands for; nothing for control tokens, or their names.

        Raises:
            EngineError: There is no such token.
        """
        with self._lock:
            _, model = self._model(path)
            return [model.token_bytes(token, control) for token in tokens]

    def close(self) -> None:
        """Free them all."""
        with self._lock:
            for model in self._models.values():
                model.close()
            self._models.clear()
            self._facts.clear()

    def _model(self, path: Path) -> "tuple[FileState, Model]":
        # Not before a model is asked for: loading llama.cpp takes a while.
        from flex_assist.engine.llama import Model

        key = file_state(path, "model")
        model = self._models.pop(key, None) or Model.load(key[0], vocab_only=True)
        self._models[key] = model
        while len(self._models) > VOCABULARIES:
            oldest = next(iter(self._models))
            self._models.pop(oldest).close()
            self._facts.pop(oldest, None)
        return key, model
