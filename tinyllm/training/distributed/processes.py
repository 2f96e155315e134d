"""The protocol of the processes that train together, and its version for a single process.

Each process has a rank, from 0. All have the same state and run the same steps; each computes its
own rows of the batch and its own windows of an evaluation. Only the first one writes files.
"""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor

from tinyllm.models.model import Model


class Processes(ABC):
    """The processes of a training, as one of them sees it.

    Attributes:
        rank: number of this process, from 0.
        size: number of processes.
        local_rank, local_size: the same for the processes of this machine.
    """

    rank: int
    size: int
    local_rank: int
    local_size: int

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files."""
        return self.rank == 0

    @abstractmethod
    def share_model(self, model: Model, device: str) -> None:
        """Move a model, identical in each process, to the device and prepare it for training."""

    def loss(self, model: Model, inputs: Tensor, targets: Tensor) -> Tensor:
        """`model.loss` of this process's rows."""
        return model.loss(inputs, targets)

    @abstractmethod
    def backward(self, loss: Tensor) -> None:
        """Add the gradient of a loss, summed over all processes."""

    def summing(self, last: bool) -> AbstractContextManager[None]:
        """Context of a micro-batch's forward and backward pass; `last`: the step's last one."""
        del last
        return nullcontext()

    @abstractmethod
    def gather(self, *values: float) -> list[tuple[float, ...]]:
        """Gather the numbers of every process; each receives the same list."""

    @abstractmethod
    def gather_text(self, text: str) -> list[str]:
        """Gather the text of every process; each receives the same list."""

    @abstractmethod
    def from_first(
        self, facts: dict[str, Any] | None, tensors: dict[str, Tensor]
    ) -> tuple[dict[str, Any] | None, dict[str, Tensor]]:
        """Broadcast what the first process passes."""

    def whole(self, tensor: Tensor) -> Tensor:
        """Gather a tensor of the model or the optimizer, of which a process may hold a shard."""
        return tensor

    def part(self, tensor: Tensor, like: Tensor) -> Tensor:
        """The inverse of `whole`: this process's shard of a tensor, distributed like another."""
        del like
        return tensor

    def release(self, model: Model) -> None:
        """Free the weights that were gathered to score a model."""
        del model

    def whole_model(self, model: Model) -> Model:
        """The model with all of its weights gathered."""
        return model

    def sum(self, *values: float) -> tuple[float, ...]:
        """Sum numbers over all processes in the order of the ranks: the same bits in each."""
        return tuple(map(sum, zip(*self.gather(*values), strict=True)))

    def owner(self, name: str) -> str:
        """The owner of random numbers that differ from process to process."""
        return name if self.first else f"{name} of rank {self.rank}"


class SingleProcess(Processes):
    """The only process of a training."""

    rank = local_rank = 0
    size = local_size = 1

    def share_model(self, model: Model, device: str) -> None:
        model.to(device)

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def gather(self, *values: float) -> list[tuple[float, ...]]:
        return [values]

    def gather_text(self, text: str) -> list[str]:
        return [text]

    def from_first(
        self, facts: dict[str, Any] | None, tensors: dict[str, Tensor]
    ) -> tuple[dict[str, Any] | None, dict[str, Tensor]]:
        return facts, tensors


ALONE = SingleProcess()
