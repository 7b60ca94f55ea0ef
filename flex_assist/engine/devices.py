"""What llama.cpp computes on here, and how many layers of a model a GPU has room for."""

import ctypes
import functools
import importlib.metadata
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from flex_assist.engine.gguf_header import check_gguf
from flex_assist.engine.llama import ALL_LAYERS, GGML, Model, silence
from flex_assist.errors import ModelError

_log = logging.getLogger(__name__)

# ggml's ggml_backend_dev_type: a card of its own, one that shares the machine's memory.
_GPU_TYPES: Final = (1, 2)
# What a context needs beside its KV (buffers of one batch), what the driver takes for itself, and
# how many contexts there are to be room for: two languages, completion and chat.
CONTEXT_BYTES: Final = 160_000_000
DRIVER_BYTES: Final = 400_000_000
PLANNED_CONTEXTS: Final = 4
# KV is held in 16 bits, keys and values.
_KV_BYTES: Final = 4
# The build option of each GPU backend, what it needs, and the systems that have it.
BUILDS: Final = (
    ("CUDA", "GGML_CUDA", "NVIDIA's CUDA toolkit", ("linux", "win32")),
    ("Metal", "GGML_METAL", "Xcode's command line tools", ("darwin",)),
    ("Vulkan", "GGML_VULKAN", "the Vulkan SDK", ("linux", "win32")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """Something that computes.

    Attributes:
        free_bytes: Of its memory, now.
    """

    name: str
    description: str
    gpu: bool
    free_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What decides how much memory the layers of a model take.

    Attributes:
        size_bytes: Of the whole file.
        kv_bytes: KV of one layer for one token.
    """

    layers: int
    size_bytes: int
    kv_bytes: int


def devices() -> list[Device]:
    """All that the installed llama.cpp can compute on."""
    library, found = _library(), []
    for index in range(library.ggml_backend_dev_count()):
        handle = library.ggml_backend_dev_get(index)
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        library.ggml_backend_dev_memory(handle, ctypes.byref(free), ctypes.byref(total))
        found.append(
            Device(
                name=_text(library.ggml_backend_dev_name(handle)),
                description=_text(library.ggml_backend_dev_description(handle)),
                gpu=library.ggml_backend_dev_type(handle) in _GPU_TYPES,
                free_bytes=free.value,
                total_bytes=total.value,
            )
        )
    return found


def backends() -> list[str]:
    """The names of the backends that the installed llama.cpp was built with, as CUDA or CPU."""
    library = _library()
    handles = (library.ggml_backend_reg_get(at) for at in range(library.ggml_backend_reg_count()))
    return [_text(library.ggml_backend_reg_name(handle)) for handle in handles]


def rebuild_commands() -> dict[str, str]:
    """How to build llama.cpp for each GPU backend that this system can have."""
    version = importlib.metadata.version("llama-cpp-python")
    install = (
        f'"{sys.executable}" -m pip install --force-reinstall --no-cache-dir --no-deps '
        f"llama-cpp-python=={version}"
    )
    windows = sys.platform == "win32"
    prefix = '$env:CMAKE_ARGS="-D{}=on"; & ' if windows else 'CMAKE_ARGS="-D{}=on" '
    return {
        f"{name} (needs {needs})": prefix.format(option) + install
        for name, option, needs, systems in BUILDS
        if sys.platform in systems
    }


def load(path: Path, wanted: int, context_tokens: int) -> tuple[Model, int]:
    """A model with as many layers on GPUs as fit, and how many these are (-1: all).

    Args:
        wanted: The setting ``engine.gpu_layers``; -1 takes all that fit.

    Raises:
        ModelError: The file cannot be loaded, without a GPU either.
    """
    layers = _planned(path, context_tokens) if wanted == ALL_LAYERS else wanted
    if layers == 0:
        return Model.load(path), 0
    # Another program may take the memory between the look and the load.
    try:
        return Model.load(path, gpu_layers=layers), layers
    except ModelError as error:
        _log.warning("the CPU takes the model, for the GPU did not: %s", error)
        return Model.load(path), 0


def fitting(shape: Shape, free_bytes: int, context_tokens: int) -> int:
    """How many layers, the output's as one more, fit into ``free_bytes``; -1 if all do."""
    # Every layer counts as much as any other, the embeddings, which stay on the CPU, as one too.
    weights = shape.size_bytes / (shape.layers + 1)
    one = weights + shape.kv_bytes * context_tokens * PLANNED_CONTEXTS
    room = free_bytes - DRIVER_BYTES - CONTEXT_BYTES * PLANNED_CONTEXTS
    count = max(0, int(room // one))
    return ALL_LAYERS if count > shape.layers else count


def shape_of(metadata: Callable[[str], str | None], size_bytes: int) -> Shape | None:
    """The shape that a file tells of itself; None if it does not."""
    name = metadata("general.architecture")

    def number(key: str) -> int:
        value = metadata(f"{name}.{key}") or ""
        return int(value) if value.isdecimal() else 0

    layers, width, heads = (
        number("block_count"), number("embedding_length"), number("attention.head_count"),
    )  # fmt: skip
    if not (layers and width and heads):
        return None
    head_width = number("attention.key_length") or width // heads
    kv_heads = number("attention.head_count_kv") or heads
    kv_bytes = kv_heads * head_width * _KV_BYTES
    return Shape(layers=layers, size_bytes=size_bytes, kv_bytes=kv_bytes)


def _planned(path: Path, context_tokens: int) -> int:
    gpus = [device for device in devices() if device.gpu]
    if not gpus:
        return 0
    real = check_gguf(path, "model")
    vocabulary = Model.load(real, vocab_only=True)
    shape = shape_of(vocabulary.metadata, real.stat().st_size)
    vocabulary.close()
    if shape is None:
        return ALL_LAYERS
    return fitting(shape, sum(gpu.free_bytes for gpu in gpus), context_tokens)


@functools.cache
def _library() -> Any:
    silence()
    library = GGML
    handles = ("dev_get", "reg_get")
    texts = ("dev_name", "dev_description", "reg_name")
    for name in handles:
        function = getattr(library, f"ggml_backend_{name}")
        function.argtypes, function.restype = [ctypes.c_size_t], ctypes.c_void_p
    for name in texts:
        function = getattr(library, f"ggml_backend_{name}")
        function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_char_p
    for name in ("dev_count", "reg_count"):
        getattr(library, f"ggml_backend_{name}").restype = ctypes.c_size_t
    library.ggml_backend_dev_type.argtypes = [ctypes.c_void_p]
    library.ggml_backend_dev_type.restype = ctypes.c_int
    size = ctypes.POINTER(ctypes.c_size_t)
    library.ggml_backend_dev_memory.argtypes = [ctypes.c_void_p, size, size]
    library.ggml_backend_dev_memory.restype = None
    return library


def _text(value: bytes | None) -> str:
    return (value or b"").decode("utf-8", "replace").strip()
