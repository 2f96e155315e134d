"""The architectures that `train.architecture` can name.

To add one: a module with a subclass of `tinyllm.models.model.Model`, and a line here
(docs/architecture.md).
"""

from pkgutil import resolve_name
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from tinyllm.models.config import ModelConfig
    from tinyllm.models.model import Model

# By reference, so that params.yaml is checked without importing torch.
ARCHITECTURES = {
    "qwen3": "tinyllm.models.qwen3:Qwen3",
    "llama": "tinyllm.models.qwen3:Llama",
    "nanochat": "tinyllm.models.nanochat:NanoChat",
}


def class_of(architecture: str) -> "type[Model]":
    """The class that an architecture's name stands for."""
    return resolve_name(ARCHITECTURES[architecture])


def TinyLLM(config: "ModelConfig", generator: "torch.Generator | None" = None) -> "Model":
    """A network of the architecture and shape that a configuration says.

    Args:
        generator: draws the initial weights; None leaves them to whoever loads some.
    """
    model = class_of(config.architecture)(config)
    if generator is not None:
        model.initialise(generator)
    return model
