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
    """Keep compiled kernels in the project, so that the next training reuses them.

    Call this early: importing some of torch's modules fixes the cache folder.
    """
    folder = project_root() / STATE_FOLDER / "compiled"
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))


def compile_training(model: Model) -> None:
    """Compile the training pass when it first runs: each block separately, and the loss.

    Blocks share their kernels, so forty compile in the time of one, and DDP and FSDP still
    communicate between blocks (https://docs.pytorch.org/tutorials/recipes/
    regional_compilation.html).

    On a CPU the loss keeps its own kernel, which does not hold all logits in memory and is as fast
    with a vocabulary of thousands of tokens.
    """
    for block in model.blocks:
        block.forward = _compiled_with_gradient(block.forward)
    if model.device.type != "cpu":
        model.cross_entropy = _compiled_with_gradient(model.cross_entropy)


def _compiled_with_gradient(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Compile a function for passes with a gradient only; scoring uses many other shapes."""
    quick = compiled(function)

    def call(*args: Any) -> Tensor:
        return (quick if torch.is_grad_enabled() else function)(*args)

    return call
