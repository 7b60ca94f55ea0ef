"""Several processes on one run: each computes its share of a batch, gradients are summed.

Started by ``torchrun`` or ``accelerate launch``; without them there is one worker, and nothing here
does anything. Every worker knows the whole batch, so nobody has to be told who computes what. The
adapter is small and is held by all; the frozen base is held by all too, or sharded (FSDP).

Source: Zhao et al., "PyTorch FSDP", arXiv 2304.11277, for the sharding, which torch does.
"""

import heapq
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, distributed
from torch.distributed.fsdp import FSDPModule, fully_shard

from flex_trainer.checkpoint import Progress, progress_from_record
from flex_trainer.corpus import Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """This process among the others.

    Attributes:
        rank: Its number.
        size: How many there are.
        source: The worker that is listened to.
        sharded: Whether the base is spread over them, so that all must compute in step.
    """

    rank: int = 0
    size: int = 1
    source: int = 0
    sharded: bool = False

    @property
    def leads(self) -> bool:
        """Whether this one writes files and talks."""
        return self.rank == 0

    @property
    def _speaks(self) -> bool:
        return self.rank == self.source

    def share(self, samples: Sequence[Sample]) -> list[list[Sample]]:
        """The samples of each worker: even in tokens, the same on all of them."""
        shares: list[list[Sample]] = [[] for _ in range(self.size)]
        if self.size == 1:
            return [list(samples)]
        loads = [(0, worker) for worker in range(self.size)]
        for sample in sorted(samples, key=lambda one: -len(one.tokens)):
            load, worker = heapq.heappop(loads)
            shares[worker].append(sample)
            heapq.heappush(loads, (load + len(sample.tokens), worker))
        return shares

    def sum_gradients(self, parameters: Sequence[Tensor], loss: float) -> float:
        """Add up the gradients of all workers, in place; gives the sum of their losses."""
        if self.size == 1:
            return loss
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
        flat = torch.cat([*(g.flatten() for g in gradients), gradients[0].new_tensor([loss])])
        distributed.all_reduce(flat)
        sizes = [gradient.numel() for gradient in gradients]
        for parameter, part in zip(parameters, torch.split(flat[:-1], sizes), strict=True):
            parameter.grad = part.view_as(parameter)
        return float(flat[-1])

    def total(self, number: float) -> float:
        """The sum of all workers' numbers."""
        if self.size == 1:
            return number
        both = torch.tensor([number], dtype=torch.float64, device=_device())
        distributed.all_reduce(both)
        return float(both)

    def any(self, asked: bool) -> bool:
        """Whether any worker says so."""
        return self.total(float(asked)) > 0

    def told(self, value: Any) -> Any:
        """The leader's ``value``, on all: anything that JSON can hold."""
        if self.size == 1:
            return value
        content = json.dumps(value).encode() if self._speaks else b""
        data = self._sent(torch.frombuffer(bytearray(content or b" "), dtype=torch.uint8))
        return json.loads(bytes(data.cpu().numpy()))

    def from_leader(
        self, found: tuple[Progress, dict[str, Tensor]] | None
    ) -> tuple[Progress, dict[str, Tensor]] | None:
        """The leader's checkpoint, on all."""
        if self.size == 1:
            return found
        head = None
        if found is not None:
            names = {k: [str(v.dtype), list(v.shape)] for k, v in found[1].items()}
            head = {"progress": asdict(found[0]), "tensors": names}
        head = self.told(head)
        if head is None:
            return None
        state = {}
        for name, (dtype, shape) in head["tensors"].items():
            kind = getattr(torch, dtype.removeprefix("torch."))
            own = found[1][name] if found is not None else torch.empty(shape, dtype=kind)
            state[name] = self._broadcast(own.reshape(-1)).reshape(shape).cpu()
        return progress_from_record(head["progress"]), state

    def gathered(self, own: dict[str, Any]) -> dict[str, Any]:
        """All workers' entries, on all."""
        found: dict[str, Any] = {}
        for worker in range(self.size):
            found.update(replace(self, source=worker).told(own))
        return found

    def _sent(self, data: Tensor) -> Tensor:
        size = self._broadcast(torch.tensor([data.numel()]))
        content = data if self._speaks else torch.empty(int(size), dtype=data.dtype)
        return self._broadcast(content)

    def _broadcast(self, tensor: Tensor) -> Tensor:
        there = tensor.to(_device()).contiguous()
        distributed.broadcast(there, src=self.source)
        return there


def join() -> Workers:
    """Take part in what ``torchrun`` or ``accelerate launch`` started; alone without them."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return Workers()
    if not distributed.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return Workers(rank=distributed.get_rank(), size=size)


def leave() -> None:
    """Take leave of the others, if there are any."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def shard(model: Any) -> None:
    """Spread the base's layers over all workers; the adapter stays whole on each.

    Args:
        model: The base with its LoRA attached. Where an earlier adapter had the base spread, it
            is so still.
    """
    adapter = {p for p in model.parameters() if p.requires_grad}
    for layer in model.get_base_model().model.layers:
        if not isinstance(layer, FSDPModule):
            fully_shard(layer, ignored_params=adapter)


def _device() -> torch.device:
    return torch.device("cuda" if distributed.get_backend() == "nccl" else "cpu")
