"""The optimizers that params.yaml can name."""

import torch
from torch import nn

from tinyllm.params import Train


def make_optimizer(model: nn.Module, settings: Train) -> torch.optim.Optimizer:
    """An optimizer over a model's weights; weight decay on matrices only (vectors get none).

    The learning rate is set at every step, by the schedule.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {
            "params": [p for p in parameters if p.ndim >= 2],
            "weight_decay": settings.weight_decay,
        },
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    # One kernel for all weights, where there is one for the device.
    fused = parameters[0].device.type in ("cpu", "cuda", "mps")
    rate, betas = settings.learning_rate, (settings.betas[0], settings.betas[1])
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=rate, betas=betas, fused=fused)
    if settings.optimizer == "adam":
        return torch.optim.Adam(groups, lr=rate, betas=betas, fused=fused)
    return torch.optim.SGD(groups, lr=rate, momentum=settings.momentum, fused=fused)
