"""Training one model with several processes, on one machine or more.

CPUs communicate through gloo, GPUs through NCCL. Losses and other small numbers always use gloo, so
that the processes wait for a GPU no more often than a single process does.
"""

import json
import os
import re
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from tinyllm.models.model import Model
from tinyllm.training.distributed.processes import Processes


class Group(Processes):
    """One of several processes; all of them call the same methods in the same order."""

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        self.local_size = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))

    def leave(self) -> None:
        """Leave the process group. Don't call it after an error: it could wait forever."""
        dist.destroy_process_group()

    def backward(self, loss: Tensor) -> None:
        (self.size * loss).backward()  # DDP and FSDP average over the ranks

    def gather(self, *values: float) -> list[tuple[float, ...]]:
        own = torch.tensor(values, dtype=torch.float64)
        found = [torch.empty_like(own) for _ in range(self.size)]
        dist.all_gather(found, own)
        return [tuple(each.tolist()) for each in found]

    def gather_text(self, text: str) -> list[str]:
        own = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
        sizes = [int(size) for (size,) in self.gather(len(own))]
        found = [torch.empty(max(sizes), dtype=torch.uint8) for _ in sizes]
        dist.all_gather(found, nn.functional.pad(own, (0, max(sizes) - len(own))))
        return [
            bytes(each[:size].tolist()).decode() for each, size in zip(found, sizes, strict=True)
        ]

    def from_first(
        self, facts: dict[str, Any] | None, tensors: dict[str, Tensor]
    ) -> tuple[dict[str, Any] | None, dict[str, Tensor]]:
        layout = {name: (str(tensor.dtype), tensor.shape) for name, tensor in tensors.items()}
        facts, layout = json.loads(self.gather_text(json.dumps([facts, layout]))[0])
        received = {}
        for name, (dtype, shape) in layout.items():
            tensor = tensors.get(name)
            if tensor is None:
                tensor = torch.empty(shape, dtype=getattr(torch, dtype.removeprefix("torch.")))
            dist.broadcast(tensor, 0)
            received[name] = tensor
        return facts, received


class DDP(Group):
    """Each rank holds the whole model; summing gradients overlaps with the backward pass."""

    def share_model(self, model: Model, device: str) -> None:
        model.to(device)
        self._replica: DistributedDataParallel | None = DistributedDataParallel(
            Objective(model), forward_sync_buffers=False, gradient_as_bucket_view=True
        )
        # DDP orders its buckets by the first backward pass, and with three ranks or more that order
        # decides the order of the sums. Without a pass before the first step, a resumed training
        # would differ from an uninterrupted one in its last bits.
        tokens = torch.zeros(1, 2, dtype=torch.int64, device=device)
        self.backward(self._replica(tokens, tokens))
        model.zero_grad()

    def loss(self, model: Model, inputs: Tensor, targets: Tensor) -> Tensor:
        assert self._replica is not None and self._replica.module.model is model
        return self._replica(inputs, targets)

    def summing(self, last: bool) -> AbstractContextManager[None]:
        assert self._replica is not None
        return nullcontext() if last else self._replica.no_sync()

    def leave(self) -> None:
        self._replica = None
        super().leave()


class Objective(nn.Module):
    """A model whose forward pass is its loss, because DDP only wraps `forward`."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        return self.model.loss(inputs, targets)


def lost_another(error: BaseException) -> bool:
    """Whether an error means that another rank exited; torch has no error class for it."""
    return isinstance(error, RuntimeError) and bool(
        re.search(r"gloo|NCCL|Connection (closed|reset)|Broken pipe", str(error))
    )
