"""The optimizers that params.yaml can name."""

from typing import Any

import torch
from torch import nn

from tinyllm.models.model import Model
from tinyllm.settings.train import Train
from tinyllm.training.optimizers.muon import Muon
from tinyllm.training.optimizers.uncompiled import SGD, Adam, AdamW


def make_optimizer(model: Model, settings: Train) -> torch.optim.Optimizer:
    """An optimizer over a model's weights; weight decay on matrices only (vectors get none).

    The learning rate is set at every step, by the schedule: each group's is `rate_multiplier` times
    the schedule's. A row of the embedding gets a gradient only when its token is in the batch, and
    profits from a higher rate (docs/log.md).
    """
    decay, weights = settings.weight_decay, model.parameter_groups()
    groups = [
        group(weights.embedding, decay, settings.embedding_rate_multiplier),
        group(weights.hidden, decay, orthogonal=True),
        group(weights.head, decay),
        group(weights.vectors, 0.0),
    ]
    groups = [each for each in groups if each["params"]]
    # One kernel for all weights, where there is one for the device.
    fused = model.device.type in ("cpu", "cuda", "mps")
    rate, betas = settings.learning_rate, (settings.betas[0], settings.betas[1])
    if settings.optimizer == "adamw":
        return AdamW(groups, lr=rate, betas=betas, fused=fused)
    if settings.optimizer == "adam":
        return Adam(groups, lr=rate, betas=betas, fused=fused)
    if settings.optimizer == "muon":
        dtype = model.compute_dtype if isinstance(model, Model) else torch.float32
        return Muon(groups, settings.momentum, dtype, lr=rate, betas=betas, fused=fused)
    return SGD(groups, lr=rate, momentum=settings.momentum, fused=fused)


def group(
    parameters: list[nn.Parameter], weight_decay: float, rate_multiplier: float = 1.0,
    *, orthogonal: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Weights that are treated alike; Muon makes the updates of some of them orthogonal."""
    return {
        "params": [parameter for parameter in parameters if parameter.requires_grad],
        "weight_decay": weight_decay,
        "rate_multiplier": rate_multiplier,
        "orthogonal": orthogonal,
    }
