"""Training batches as a function of (seed, step), so that any step's batch can be looked up.

Each epoch draws a new offset, from which the tokens are cut into windows, and a new order of the
windows. The targets of an epoch's windows do not overlap.
"""

import os

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tinyllm.compute import derive_seed
from tinyllm.data.token_store import Tokens


class Batches(Dataset[tuple[Tensor, Tensor]]):
    """The batch of each step: `batches[step]` is (inputs, targets), each (B, T) int64.

    Args:
        tokens: token ids of the training split, (N,).
        context_length: tokens per window (T).
        batch_size: windows per batch (B).
        seed: the run's seed.
        rank, world_size: this process takes rows rank, rank + world_size, ... of each batch.

    Raises:
        ValueError: the split is shorter than one window.
    """

    def __init__(
        self, tokens: Tokens, context_length: int, batch_size: int, seed: int,
        *, rank: int = 0, world_size: int = 1,
    ) -> None:  # fmt: skip
        if len(tokens) < context_length + 1:
            raise ValueError(
                f"train.context_length = {context_length}: must be below the size of the "
                f"training split, {len(tokens)} tokens"
            )
        self.tokens = tokens
        self.context_length = context_length
        self.batch_size = batch_size
        self.seed = seed
        self.rows = range(rank, batch_size, world_size)
        spare = min(context_length, len(tokens) - context_length)
        self.windows_per_epoch = (len(tokens) - spare) // context_length
        self.offsets = len(tokens) - context_length * self.windows_per_epoch
        self._epoch = -1
        self._starts = np.empty(0, dtype=np.int64)

    def starts(self, epoch: int) -> np.ndarray:
        """Index of the first token of each window, in the epoch's order."""
        if epoch != self._epoch:
            random = np.random.default_rng(derive_seed(self.seed, "data order", epoch))
            offset = random.integers(self.offsets)
            order = random.permutation(self.windows_per_epoch)
            self._epoch, self._starts = epoch, offset + self.context_length * order
        return self._starts

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        starts = []
        for row in self.rows:
            epoch, place = divmod(step * self.batch_size + row, self.windows_per_epoch)
            starts.append(self.starts(epoch)[place])
        span = np.arange(self.context_length + 1)
        ids = self.tokens[np.array(starts)[:, None] + span]
        windows = torch.from_numpy(ids.astype(np.int64))  # (B, T + 1)
        return windows[:, :-1], windows[:, 1:]


def _leave_group(_: int) -> None:
    """Shield a worker from signals to the trainer; it notices on its own if the trainer exits."""
    os.setpgrp()


def loader(
    batches: Batches, first_step: int, last_step: int, *, num_workers: int, pin_memory: bool
) -> DataLoader[tuple[Tensor, Tensor]]:
    """The batches of steps first_step to last_step - 1, in order for any number of workers."""
    return DataLoader(
        batches,
        batch_size=None,  # an item is a whole batch
        sampler=range(first_step, last_step),
        num_workers=num_workers,
        pin_memory=pin_memory and torch.cuda.is_available(),
        persistent_workers=num_workers > 0,
        worker_init_fn=_leave_group,
    )
