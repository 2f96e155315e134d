"""Scores of a model on windows that several processes share."""

import math

import torch

from tinyllm.evaluation.scores import Scores, Windows, predict
from tinyllm.models.config import IGNORE
from tinyllm.models.model import Model
from tinyllm.training.distributed.processes import Processes


def score(model: Model, windows: Windows, processes: Processes) -> Scores:
    """Score a model on windows; the same result in each process."""
    found = predict(model, windows_of(windows, processes.rank, processes.size))
    processes.release(model)
    return Scores.of(windows.n_bytes, *processes.sum(*found.totals()))


def windows_of(windows: Windows, rank: int, size: int) -> Windows:
    """The windows rank, rank + size, ...; the same number for each rank.

    If their number is no multiple of `size`, some ranks get one more in which no target counts:
    processes that share the weights of a model must compute in step.
    """
    if size == 1:
        return windows
    inputs, targets = windows.inputs[rank::size], windows.targets[rank::size]
    missing = math.ceil(len(windows.inputs) / size) - len(inputs)
    if missing:
        inputs = torch.cat([inputs, windows.inputs[:1]])
        targets = torch.cat([targets, torch.full_like(windows.targets[:1], IGNORE)])
    return Windows(inputs, targets, 0)
