"""The processes that share a training: what one alone does, and what it does with others.

Each has a rank, from 0. All hold the same state and go through the same steps; each computes with
its own rows of the batch and its own windows of an evaluation. The first alone writes anything.
`tinyllm.training.group` is the same for several processes; what a single one runs stays here.
"""

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from tinyllm.evaluation.scores import Scores, Windows, predict
from tinyllm.models.config import IGNORE
from tinyllm.models.model import Model


class Ranks:
    """The only process of a training, which has nobody to share anything with.

    Attributes:
        rank: this process's, from 0.
        size: processes in all.
        local_rank, local_size: the same among the processes of this machine.
    """

    rank = local_rank = 0
    size = local_size = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def share_model(self, model: Model, device: str) -> None:
        """Bring a model, the same on each rank, to the device, ready to be trained together."""
        model.to(device)

    def loss(self, model: Model, inputs: Tensor, targets: Tensor) -> Tensor:
        """`model.loss` of this rank's rows."""
        return model.loss(inputs, targets)

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of a loss, summed over all ranks."""
        loss.backward()

    def summing(self, last: bool) -> AbstractContextManager[None]:
        """Around the forward and backward pass of a micro-batch; `last`: the step's last one."""
        del last
        return nullcontext()

    def gather(self, *values: float) -> list[tuple[float, ...]]:
        """Some numbers of every rank, the same list on each."""
        return [values]

    def gather_text(self, text: str) -> list[str]:
        """A text of every rank."""
        return [text]

    def from_first(
        self, facts: dict[str, Any] | None, tensors: dict[str, Tensor]
    ) -> tuple[dict[str, Any] | None, dict[str, Tensor]]:
        """What the first rank passes here."""
        return facts, tensors

    def whole(self, tensor: Tensor) -> Tensor:
        """A tensor of the model or the optimizer, of which a rank may hold a part, in full."""
        return tensor

    def part(self, tensor: Tensor, like: Tensor) -> Tensor:
        """The inverse of `whole`: what this rank holds of a full tensor, distributed as another."""
        del like
        return tensor

    def release(self, model: Model) -> None:
        """Give up what was gathered of a model to score it."""

    def whole_model(self, model: Model) -> Model:
        """The model with all of its weights in full."""
        return model

    def sum(self, *values: float) -> tuple[float, ...]:
        """Numbers summed over all ranks, in their order: the same bits on each."""
        return tuple(map(sum, zip(*self.gather(*values), strict=True)))

    def owner(self, name: str) -> str:
        """The owner of random numbers that are to differ from rank to rank."""
        return name if self.first else f"{name} of rank {self.rank}"


ALONE = Ranks()


def score(model: Model, windows: Windows, ranks: Ranks) -> Scores:
    """Score a model on windows that the ranks share; the same result on each."""
    own = windows_of(windows, ranks.rank, ranks.size)
    found = predict(model, own)
    ranks.release(model)
    if ranks.size == 1:
        return found.scores(windows.n_bytes)
    nats, right, tokens = ranks.sum(
        found.losses.double().sum().item(), found.right.sum().item(), len(found.losses)
    )
    return Scores(
        loss=nats / tokens,
        bits_per_byte=nats / math.log(2) / max(1, windows.n_bytes),
        accuracy=right / tokens,
        tokens=int(tokens),
    )


def windows_of(windows: Windows, rank: int, size: int) -> Windows:
    """The windows rank, rank + size, ...; the same number on each rank.

    Where they don't come out even, some get one in which no target counts: the ranks that share the
    weights of a model must compute in step.
    """
    if size == 1:
        return windows
    inputs, targets = windows.inputs[rank::size], windows.targets[rank::size]
    missing = math.ceil(len(windows.inputs) / size) - len(inputs)
    if missing:
        inputs = torch.cat([inputs, windows.inputs[:1]])
        targets = torch.cat([targets, torch.full_like(windows.targets[:1], IGNORE)])
    return Windows(inputs, targets, 0)
