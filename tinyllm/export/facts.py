"""What an exported model says about where it comes from."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Facts:
    """What is known about a model; None for what is not.

    Attributes:
        name: the model's name.
        training_data: origin of the training text.
        licence: licence of the training text.
        commit: the commit of the settings and code that made the model.
        repository: address of that commit's repository.
        card: the page that `evaluate` wrote about the model; it need not exist.
    """

    name: str
    training_data: str | None = None
    licence: str | None = None
    commit: str | None = None
    repository: str | None = None
    card: Path | None = None
