"""Training with torch's compiler, which fuses a network's small operations into a few kernels."""

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tinyllm.common.files import STATE_FOLDER, project_root
from tinyllm.compiler import compiled
from tinyllm.models.model import Model


def keep_kernels() -> None:
    """Have what is compiled kept in the project, for the next training.

    To be called early: importing some of torch's modules settles the place.
    """
    folder = project_root() / STATE_FOLDER / "compiled"
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))


def compile_training(model: Model) -> None:
    """Have the training pass compiled when it first runs: each block by itself, and the loss.

    Blocks share their kernels, so that forty are compiled in the time of one, and DDP and FSDP do
    their part between them as ever (https://docs.pytorch.org/tutorials/recipes/
    regional_compilation.html).
    """
    for block in model.blocks:
        block.forward = _compiled_with_gradient(block.forward)
    model.cross_entropy = _compiled_with_gradient(model.cross_entropy)


def _compiled_with_gradient(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Compiled where there will be a gradient; scoring has shapes of its own and does without."""
    quick = compiled(function)

    def call(*args: Any) -> Tensor:
        return (quick if torch.is_grad_enabled() else function)(*args)

    return call
