"""Training batches: a function of (seed, step), so that any step's batch is a look-up.

The tokens are cut into windows from an offset drawn anew each epoch, and the windows are taken in
an order drawn anew each epoch. No two windows of an epoch overlap in their targets.
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
        tokens: ids (N,) of the training split.
        context_length: tokens in a window (T).
        batch_size: windows in a batch (B).
        seed: of the whole run.
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
                f"train.context_length = {context_length}: must be below the "
                f"{len(tokens)} tokens of the training split"
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
        """First token of each window, in the epoch's order."""
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
    """Have a worker see no signal that is meant for the trainer, whose loss it notices anyway."""
    os.setpgrp()


def loader(
    batches: Batches, first_step: int, last_step: int, *, num_workers: int, pin_memory: bool
) -> DataLoader[tuple[Tensor, Tensor]]:
    """The batches of steps first_step to last_step - 1, in order, whatever the workers."""
    return DataLoader(
        batches,
        batch_size=None,  # an item is a whole batch
        sampler=range(first_step, last_step),
        num_workers=num_workers,
        pin_memory=pin_memory and torch.cuda.is_available(),
        persistent_workers=num_workers > 0,
        worker_init_fn=_leave_group,
    )
