"""The architectures that `train.architecture` can name.

To add one, write a module with a subclass of `tinyllm.models.model.Model`, and add a line here
(docs/architecture.md).
"""

from pkgutil import resolve_name
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from tinyllm.models.config import ModelConfig
    from tinyllm.models.model import Model

# Import paths instead of classes, so that checking params.yaml does not import torch.
ARCHITECTURES = {
    "qwen3": "tinyllm.models.qwen3:Qwen3",
    "llama": "tinyllm.models.qwen3:Llama",
    "nanochat": "tinyllm.models.nanochat:NanoChat",
}


def class_of(architecture: str) -> "type[Model]":
    """The class of an architecture."""
    return resolve_name(ARCHITECTURES[architecture])


def TinyLLM(config: "ModelConfig", generator: "torch.Generator | None" = None) -> "Model":
    """Make the network that a configuration describes.

    Args:
        generator: draws the initial weights; None if weights will be loaded.
    """
    model = class_of(config.architecture)(config)
    if generator is not None:
        model.initialise(generator)
    return model
