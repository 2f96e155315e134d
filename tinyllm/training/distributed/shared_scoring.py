"""Scoring a model with several processes, each on some of the windows."""

import math

import torch

from tinyllm.evaluation.scores import Scores, Windows, predict
from tinyllm.models.config import IGNORE
from tinyllm.models.model import Model
from tinyllm.training.distributed.processes import Processes


def score(model: Model, windows: Windows, processes: Processes) -> Scores:
    """Score a model on windows; every process returns the same result."""
    found = predict(model, windows_of(windows, processes.rank, processes.size))
    processes.release(model)
    return Scores.of(windows.n_bytes, *processes.sum(*found.totals()))


def windows_of(windows: Windows, rank: int, size: int) -> Windows:
    """The windows rank, rank + size, ...; the same number for each rank.

    If their number is not a multiple of `size`, some ranks get an extra window without targets:
    processes that share a model's weights must run the same number of passes.
    """
    if size == 1:
        return windows
    inputs, targets = windows.inputs[rank::size], windows.targets[rank::size]
    missing = math.ceil(len(windows.inputs) / size) - len(inputs)
    if missing:
        inputs = torch.cat([inputs, windows.inputs[:1]])
        targets = torch.cat([targets, torch.full_like(windows.targets[:1], IGNORE)])
    return Windows(inputs, targets, 0)
