"""How much memory a training step takes, and how much there is."""

import contextlib
import gc
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from flex_assist.processes import give_memory_back
from flex_trainer import losses
from flex_trainer.corpus import Sample
from flex_trainer.kernels import Nf4Linear
from flex_trainer.packing import hidden_states, pack

PROBE_TOKENS = 64
# Float32 numbers held for each trainable one: master, gradient, two moments of the optimizer, and
# the copy of all but the gradient that a run which blows up goes back to.
STATE_FLOATS = 7
# Those that an update and the penalty make on the way, when activations are gone.
UPDATE_FLOATS = 6
# What a general allocator loses between the pieces.
FRAGMENTATION = 1.1
# Copies of the widest activations that are alive while a layer's gradient is computed.
LAYER_COPIES = 8
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
CGROUP_USED = Path("/sys/fs/cgroup/memory.current")


class OutOfMemory(Exception):
    """A step did not fit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """What a run holds on its device, in bytes.

    Attributes:
        resident: Before training: the base, and on a CPU all else in the process.
        state: Adapter, gradients and optimizer.
        update: Made and dropped by an update.
        per_token: Kept for the gradient, for each token of a row.
        working: Made and dropped for each token in a layer's backward pass.
        head: The loss's logits.
        unpacked: The largest weight, where they are held in 4 bits.
        measuring: While the gate measures: the adapter, the served model and its contexts.
    """

    resident: int
    state: int
    update: int
    per_token: float
    working: float
    head: int
    unpacked: int = 0
    measuring: int = 0

    def peak_mb(self, row_tokens: int) -> float:
        """The most that is held, in MB."""
        layer = self.working * row_tokens + self.unpacked
        passing = self.per_token * row_tokens + max(self.head, layer)
        training = self.state + max(passing, self.update)
        return FRAGMENTATION * (self.resident + max(training, self.measuring)) / 1e6


def footprints(model: Any, gate_bytes: int) -> dict[bool, Footprint]:
    """What training takes, without recomputation and with it.

    What a forward pass keeps is measured on a few tokens; the rest is added up.

    Args:
        model: The base with its LoRA attached.
        gate_bytes: What the gate's engine holds on the same device.
    """
    core = model.get_base_model()
    head = core.get_output_embeddings().weight
    number = head.element_size()
    layers = core.model.layers
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    kept = _kept_bytes(core, core.device) / PROBE_TOKENS
    linear = [one for one in layers.modules() if isinstance(one, nn.Linear)]
    widest = max(one.out_features for one in linear) * number
    packed = [one.in_features * one.out_features for one in linear if isinstance(one, Nf4Linear)]
    inputs = len(layers) * head.shape[1] * number
    copies = LAYER_COPIES * widest

    def one(per_token: float, working: float) -> Footprint:
        return Footprint(
            resident=resident_bytes(core.device),
            state=trainable * (4 * STATE_FLOATS + 2 * number),
            update=4 * UPDATE_FLOATS * trainable,
            per_token=per_token,
            working=working,
            head=losses.CHUNK_ROWS * head.shape[0] * (4 + 4 + 2 * number),
            unpacked=max(packed, default=0) * number,
            measuring=trainable * (4 + number) + gate_bytes,
        )

    return {False: one(kept, copies), True: one(inputs, kept / len(layers) + copies)}


def _kept_bytes(core: Any, device: torch.device) -> int:
    """Bytes kept for the gradient by a forward pass of ``PROBE_TOKENS``."""
    parameters = {p.untyped_storage().data_ptr() for p in core.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> None:
        # Not the tensor: a node of the graph that holds its own output is never freed, and with it
        # neither is the base.
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage

    some = (1,) * PROBE_TOKENS
    row = pack([Sample(tokens=some, labels=some, weights=(1.0,) * PROBE_TOKENS)], device)
    with torch.autograd.graph.saved_tensors_hooks(keep, _never):
        hidden_states(core, row)
    return sum(storage.nbytes() for storage in kept.values())


def _never(_: object) -> Tensor:
    raise AssertionError("nothing goes backwards here")


def resident_bytes(device: torch.device) -> int:
    """What is held now: by this process, or on its GPU."""
    if device.type == "cuda":
        return int(torch.cuda.memory_allocated(device))
    return int(psutil.Process().memory_info().rss)


def available_mb(device: torch.device) -> float:
    """What this process may still take, in MB, with what it has already."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return float(free + torch.cuda.memory_reserved(device)) / 1e6
    own = psutil.Process().memory_info().rss
    limits = [psutil.virtual_memory().available + own]
    with contextlib.suppress(OSError, ValueError):
        room = int(CGROUP_LIMIT.read_text()) - int(CGROUP_USED.read_text())
        limits.append(room + own)
    return float(min(limits)) / 1e6


@contextlib.contextmanager
def out_of_memory_is_told() -> Iterator[None]:
    """Turn each form in which torch says that memory is short into ``OutOfMemory``."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise OutOfMemory from error
    except RuntimeError as error:
        if "can't allocate memory" in str(error) or "not enough memory" in str(error):
            raise OutOfMemory from error
        raise


def release() -> None:
    """Give back what is not used."""
    gc.collect()
    give_memory_back()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
