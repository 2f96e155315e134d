"""The optimizers that `train.optimizer` can name.

To add one: a function here, and a line in OPTIMIZERS. `tinyllm.settings.train` lists the names.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from tinyllm.models.huggingface import rows_of_parts
from tinyllm.models.model import Model
from tinyllm.settings.train import Train
from tinyllm.training.optimizers.muon import Muon
from tinyllm.training.optimizers.uncompiled import SGD, Adam, AdamW

Groups = list[dict[str, Any]]  # weights that are treated alike, as torch's optimizers take them


def make_optimizer(model: Model, settings: Train) -> torch.optim.Optimizer:
    """Make the optimizer of a model's weights; weight decay applies to matrices, not to vectors.

    The schedule sets the learning rate at every step: each group's is `rate_multiplier` times the
    schedule's. An embedding row gets a gradient only when its token is in the batch, and trains
    better with a higher rate (docs/log.md).
    """
    decay, weights = settings.weight_decay, model.parameter_groups()
    groups = [
        group(weights.embedding, decay, settings.embedding_rate_multiplier),
        group(weights.hidden, decay, orthogonal=True),
        group(weights.head, decay),
        group(weights.vectors, 0.0),
    ]
    groups = [each for each in groups if each["params"]]
    return OPTIMIZERS[settings.optimizer](groups, settings, model)


def group(
    parameters: list[nn.Parameter], weight_decay: float, rate_multiplier: float = 1.0,
    *, orthogonal: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """A parameter group; with Muon, the updates of some groups are orthogonal."""
    return {
        "params": [parameter for parameter in parameters if parameter.requires_grad],
        "weight_decay": weight_decay,
        "rate_multiplier": rate_multiplier,
        "orthogonal": orthogonal,
    }


def averaging(settings: Train, model: Model) -> dict[str, Any]:
    """What every optimizer that averages gradients takes."""
    return {"lr": settings.learning_rate, "betas": tuple(settings.betas), "fused": _fused(model)}


def _fused(model: Model) -> bool:
    """Whether there is one kernel for all weights on the model's device."""
    return model.device.type in ("cpu", "cuda", "mps")


def adamw(groups: Groups, settings: Train, model: Model) -> torch.optim.Optimizer:
    """Adam with decoupled weight decay (https://arxiv.org/abs/1711.05101)."""
    return AdamW(groups, **averaging(settings, model))


def adam(groups: Groups, settings: Train, model: Model) -> torch.optim.Optimizer:
    """Adam (https://arxiv.org/abs/1412.6980); weight decay is added to the gradient."""
    return Adam(groups, **averaging(settings, model))


def sgd(groups: Groups, settings: Train, model: Model) -> torch.optim.Optimizer:
    """Stochastic gradient descent with momentum; weight decay is added to the gradient."""
    return SGD(groups, lr=settings.learning_rate, momentum=settings.momentum, fused=_fused(model))


def muon(groups: Groups, settings: Train, model: Model) -> torch.optim.Optimizer:
    """Muon for the blocks' matrices, AdamW for the rest."""
    return Muon(
        groups, settings.momentum, model.compute_dtype, rows_of_parts(model),
        **averaging(settings, model),
    )  # fmt: skip


OPTIMIZERS: dict[str, Callable[[Groups, Train, Model], torch.optim.Optimizer]] = {
    "adamw": adamw,
    "adam": adam,
    "sgd": sgd,
    "muon": muon,
}
