"""llama.cpp, made safe: models and adapters over llama-cpp-python's low-level interface.

The only module that imports ``llama_cpp``. Nothing here is for two threads at once, except
``Model.tokenize``, ``token_bytes`` and ``facts``, which only read.
"""

import collections
import ctypes
import functools
import itertools
import logging
import os
import re
import threading
from pathlib import Path
from typing import Any, Final

import llama_cpp
import llama_cpp.llama_cpp as native
from llama_cpp import _ggml

from flex_assist.engine.gguf_header import FileState, check_gguf, file_state
from flex_assist.engine.protocol import ModelFacts
from flex_assist.errors import EngineError, ModelError

__all__ = ["ALL_LAYERS", "GGML", "LIBRARY", "Adapter", "Model", "native", "silence"]

_log = logging.getLogger(__name__)

# Which llama.cpp this is.
LIBRARY: Final = str(llama_cpp.__version__)
# What knows the devices.
GGML: Final = _ggml.libggml
ALL_LAYERS: Final = -1
_NO_TOKEN: Final = -1
# llama.cpp matches the words of some BPE vocabularies by a function that calls itself for each
# character: tens of thousands without a break would end the process. Nothing that anybody reads has
# them. (Other vocabularies know no words, and would put a space before each part.)
_MOST_RUN: Final = 1024
_MOST_UNBROKEN: Final = 8192
# Letters, digits, spaces, and the rest. Looking back makes it look at each run once.
_LONG_RUN: Final = re.compile(
    r"(?<![^\W\d_])[^\W\d_]{N,}|(?<!\d)\d{N,}|(?<!\s)\s{N,}"
    r"|(?<![^\w\s])(?<!_)(?:[^\w\s]|_){N,}".replace("N", str(_MOST_RUN))
)
# Some words are of several kinds, and what a letter is differs.
_UNBROKEN: Final = re.compile(r"(?<!\S)\S{N,}".replace("N", str(_MOST_UNBROKEN)))
_REASONS: Final = ("error", "failed", "unknown", "invalid", "not ", "mismatch", "wrong", "corrupt")


class _LastLines(threading.local):
    """llama.cpp's last words in this thread: after a failed load they say why."""

    def __init__(self) -> None:
        self.lines: collections.deque[str] = collections.deque(maxlen=64)


_last = _LastLines()
_silencing = threading.Lock()
_silent = False


@native.llama_log_callback  # type: ignore[untyped-decorator]
def _log_line(level: int, text: bytes, user_data: int | None) -> None:
    line = text.decode("utf-8", "replace").rstrip()
    if line.strip("."):
        _last.lines.append(line)
        _log.debug("llama.cpp: %s", line)


def silence() -> None:
    """Send llama.cpp's own log to Python's, at DEBUG; nothing reaches the standard streams.

    Called by ``Model.load``. Also keeps a failed assertion from starting a debugger.
    """
    global _silent
    with _silencing:
        if _silent:
            return
        os.environ.setdefault("GGML_NO_BACKTRACE", "1")
        native.llama_log_set(_log_line, ctypes.c_void_p(None))
        native.llama_backend_init()
        _silent = True


class Adapter:
    """A LoRA adapter in memory. Lives at most as long as its model."""

    __slots__ = ("handle", "path")

    def __init__(self, path: Path, handle: Any) -> None:
        self.path = path
        self.handle = handle


class Model:
    """A GGUF file in memory: its vocabulary and, unless ``vocab_only``, its weights."""

    def __init__(self, path: Path, handle: Any, *, vocab_only: bool) -> None:
        self.path = path
        self.vocab_only = vocab_only
        self._handle = handle
        self._vocabulary = native.llama_model_get_vocab(handle)
        self._has_words = native.llama_vocab_type(self._vocabulary) == native.LLAMA_VOCAB_TYPE_BPE
        self._adapters: dict[FileState, Adapter] = {}
        self.vocabulary_size: int = native.llama_vocab_n_tokens(self._vocabulary)

    @classmethod
    def load(cls, path: Path, *, vocab_only: bool = False, gpu_layers: int = 0) -> "Model":
        """Read a GGUF file.

        Args:
            vocab_only: Enough for ``facts`` and ``tokenize``, and quick.
            gpu_layers: Layers to hold on the GPU, if the library was built for one; -1 is all.

        Raises:
            ModelError: The file is missing, damaged or of a kind that llama.cpp does not know.
        """
        real = check_gguf(path, "model")
        silence()
        parameters = native.llama_model_default_params()
        parameters.vocab_only = vocab_only
        parameters.n_gpu_layers = gpu_layers
        _last.lines.clear()
        handle = native.llama_model_load_from_file(os.fsencode(real), parameters)
        if not handle:
            raise ModelError(
                f"the model file {str(path)!r} cannot be loaded{_reason()}; "
                "it may be damaged or too new: replace it, or take another model"
            )
        return cls(real, handle, vocab_only=vocab_only)

    @property
    def handle(self) -> Any:
        """The native model.

        Raises:
            EngineError: It was closed.
        """
        if self._handle is None:
            raise EngineError(f"the model {str(self.path)!r} is closed; load it again")
        return self._handle

    @property
    def size_bytes(self) -> int:
        """Bytes of all tensors."""
        return int(native.llama_model_size(self.handle))

    @functools.cached_property
    def end_ids(self) -> frozenset[int]:
        """Ids that end generation."""
        return frozenset(token for token in range(self.vocabulary_size) if self.is_end(token))

    def facts(self) -> ModelFacts:
        """What the file says of itself. ``bos_id`` is set only if prompts must begin with it."""
        architecture = self.metadata("general.architecture") or "unknown"
        trained = self.metadata(f"{architecture}.context_length") or "0"
        template = native.llama_model_chat_template(self.handle, None)
        begins = native.llama_vocab_get_add_bos(self._vocabulary)
        fim = (
            native.llama_vocab_fim_pre(self._vocabulary),
            native.llama_vocab_fim_suf(self._vocabulary),
            native.llama_vocab_fim_mid(self._vocabulary),
        )
        return ModelFacts(
            architecture=architecture,
            context_tokens=int(trained) if trained.isdecimal() else 0,
            vocabulary=self.vocabulary_size,
            fim_ids=None if _NO_TOKEN in fim else fim,
            end_ids=tuple(sorted(self.end_ids)),
            bos_id=native.llama_vocab_bos(self._vocabulary) if begins else None,
            chat_template=template.decode("utf-8", "replace") if template else None,
        )

    def tokenize(self, text: str, special: bool = False) -> list[int]:
        """Token ids, without BOS and EOS.

        Args:
            special: Control tokens spelled out in ``text`` become such; else they are plain text.
        """
        self.handle  # noqa: B018 - raises if closed
        # A control token must not be cut; those who spell them out write the text themselves.
        if len(text) <= _MOST_RUN or special or not self._has_words:
            return self._tokenized(text, special)
        ends = {
            end
            for pattern, most in ((_LONG_RUN, _MOST_RUN), (_UNBROKEN, _MOST_UNBROKEN))
            for run in pattern.finditer(text)
            for end in range(run.start() + most, run.end() + 1, most)
        }
        parts = itertools.pairwise([0, *sorted(ends), len(text)])
        return [
            token for start, end in parts for token in self._tokenized(text[start:end], special)
        ]

    def _tokenized(self, text: str, special: bool) -> list[int]:
        data = text.encode("utf-8", "replace")
        room = len(data) + 8
        for _ in range(2):
            ids = (native.llama_token * room)()
            count = native.llama_tokenize(
                self._vocabulary, data, len(data), ids, room, False, special
            )
            if count >= 0:
                return list(ids[:count])
            room = -count
        raise EngineError(f"a text of {len(data)} bytes cannot be tokenized; it is too long")

    def token_bytes(self, token: int, control: bool = False) -> bytes:
        """What ``token`` spells; control tokens spell nothing, or their names.

        Raises:
            EngineError: There is no such token.
        """
        self.handle  # noqa: B018 - raises if closed
        # llama.cpp would end the process.
        if not 0 <= token < self.vocabulary_size:
            raise EngineError(f"{self.path.name!r} has no token {token!r}; ask with its own")
        room = 64
        for _ in range(2):
            buffer = ctypes.create_string_buffer(room)
            count: int = native.llama_token_to_piece(
                self._vocabulary, token, buffer, room, 0, control
            )
            if count >= 0:
                return buffer.raw[:count]
            room = -count
        raise EngineError(f"token {token!r} of {str(self.path)!r} has no text")

    def is_end(self, token: int) -> bool:
        """Whether ``token`` ends generation."""
        self.handle  # noqa: B018 - raises if closed
        return bool(native.llama_vocab_is_eog(self._vocabulary, token))

    def load_adapter(self, path: Path) -> Adapter:
        """The adapter of a LoRA GGUF file; one copy for each state of the file.

        Raises:
            ModelError: The file is missing, damaged, or made for another model.
        """
        key = file_state(path, "adapter")
        real = key[0]
        if key not in self._adapters:
            _last.lines.clear()
            handle = native.llama_adapter_lora_init(self.handle, os.fsencode(real))
            if not handle:
                raise ModelError(
                    f"the adapter {str(path)!r} does not fit the model {self.path.name!r}"
                    f"{_reason()}; adapt again with this base model"
                )
            self._adapters[key] = Adapter(real, handle)
        return self._adapters[key]

    def free_adapter(self, adapter: Adapter) -> None:
        """Give an adapter's memory back. No context may use it any more."""
        kept = {key: held for key, held in self._adapters.items() if held is not adapter}
        if len(kept) < len(self._adapters):
            self._adapters = kept
            native.llama_adapter_lora_free(adapter.handle)

    def close(self) -> None:
        """Free the model and its adapters. Its contexts must be closed before."""
        if self._handle is not None:
            native.llama_model_free(self._handle)
            self._handle = None
            self._adapters.clear()

    def metadata(self, key: str) -> str | None:
        """A value of the file's metadata as text; None if there is none, or it is a list."""
        buffer = ctypes.create_string_buffer(256)
        count = native.llama_model_meta_val_str(self.handle, key.encode(), buffer, len(buffer))
        return buffer.value.decode("utf-8", "replace") if count >= 0 else None


def _reason() -> str:
    """What llama.cpp last complained of, ready to be put into a sentence."""
    for line in reversed(_last.lines):
        if any(word in line.lower() for word in _REASONS):
            return f" ({line.strip()[:300]})"
    return ""


def features() -> str:
    """What of the processor the installed llama.cpp uses, for people."""
    silence()
    told: str = native.llama_print_system_info().decode("utf-8", "replace")
    return told.strip(" |")
