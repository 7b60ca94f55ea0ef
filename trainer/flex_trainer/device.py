"""Where to train, and in which precision: found by a short probe."""

import ctypes
import os
import platform
import time

import torch

PROBE_SHAPE = (512, 576, 1536)
PROBE_ROUNDS = 8
# How many kernels are kept for shapes seen before: by oneDNN, and by torch's layer above it.
KERNEL_CACHES = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64", "LRU_CACHE_CAPACITY": "64"}
# glibc's parameters, see mallopt(3).
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8


def choose_device() -> torch.device:
    """The best device of this machine."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def choose_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where a matrix product in it is faster than in float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    if device.type != "cpu":
        return torch.float32
    seconds = {dtype: _product_seconds(dtype) for dtype in (torch.float32, torch.bfloat16)}
    return min(seconds, key=lambda dtype: seconds[dtype])


def dtype_name(dtype: torch.dtype) -> str:
    """As recipes write it: ``bfloat16``."""
    return str(dtype).removeprefix("torch.")


def use_threads(threads: int) -> int:
    """Compute with so many threads; 0 takes the cores that this process may use."""
    count = threads or len(_usable_cores())
    torch.set_num_threads(count)
    return count


def keep_memory() -> None:
    """Let glibc keep what is freed: big buffers come and go at each step, and are mapped anew.

    And let old kernels be forgotten: each length of a row is a shape of its own, whose kernels hold
    some 7 MB. Before anything is computed.
    """
    for variable, capacity in KERNEL_CACHES.items():
        os.environ.setdefault(variable, capacity)
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(M_MMAP_MAX, 0)
    libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    libc.mallopt(M_ARENA_MAX, 1)


def peak_memory_mb(device: torch.device) -> float:
    """The most memory this process has held, in MB: on a GPU, what torch took there."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 1e6, 1)
    if platform.system() == "Windows":
        return 0.0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1e6 if platform.system() == "Darwin" else 1e3), 1)


def _product_seconds(dtype: torch.dtype) -> float:
    rows, inner, columns = PROBE_SHAPE
    left, right = torch.randn(rows, inner).to(dtype), torch.randn(inner, columns).to(dtype)
    best = float("inf")
    for _ in range(PROBE_ROUNDS):
        started = time.perf_counter()
        left @ right
        best = min(best, time.perf_counter() - started)
    return best


def _usable_cores() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))
