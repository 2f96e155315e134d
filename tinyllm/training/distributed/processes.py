"""What the processes that share a training do together: the protocol, and one process alone.

Each process has a rank, from 0. All hold the same state and go through the same steps; each
computes with its own rows of the batch and its own windows of an evaluation. Only the first writes
files.
"""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor

from tinyllm.models.model import Model


class Processes(ABC):
    """The processes of a training, as one of them sees it.

    Attributes:
        rank: this process's, from 0.
        size: processes in all.
        local_rank, local_size: the same among the processes of this machine.
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
        """Move a model, the same in each process, to the device, ready to be trained together."""

    def loss(self, model: Model, inputs: Tensor, targets: Tensor) -> Tensor:
        """`model.loss` of this process's rows."""
        return model.loss(inputs, targets)

    @abstractmethod
    def backward(self, loss: Tensor) -> None:
        """Add the gradient of a loss, summed over all processes."""

    def summing(self, last: bool) -> AbstractContextManager[None]:
        """Around the forward and backward pass of a micro-batch; `last`: the step's last one."""
        del last
        return nullcontext()

    @abstractmethod
    def gather(self, *values: float) -> list[tuple[float, ...]]:
        """Some numbers of every process, the same list in each."""

    @abstractmethod
    def gather_text(self, text: str) -> list[str]:
        """A text of every process, the same list in each."""

    @abstractmethod
    def from_first(
        self, facts: dict[str, Any] | None, tensors: dict[str, Tensor]
    ) -> tuple[dict[str, Any] | None, dict[str, Tensor]]:
        """What the first process passes here, in each."""

    def whole(self, tensor: Tensor) -> Tensor:
        """A tensor of the model or the optimizer, of which a process may hold a part, in full."""
        return tensor

    def part(self, tensor: Tensor, like: Tensor) -> Tensor:
        """The inverse of `whole`: what this process holds of a tensor, distributed as another."""
        del like
        return tensor

    def release(self, model: Model) -> None:
        """Free what was gathered of a model to score it."""
        del model

    def whole_model(self, model: Model) -> Model:
        """The model with all of its weights in full."""
        return model

    def sum(self, *values: float) -> tuple[float, ...]:
        """Numbers summed over all processes, in the order of the ranks: the same bits in each."""
        return tuple(map(sum, zip(*self.gather(*values), strict=True)))

    def owner(self, name: str) -> str:
        """The owner of random numbers that are to differ from process to process."""
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
