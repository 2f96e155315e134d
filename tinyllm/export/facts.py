"""What an exported model says about where it comes from."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Facts:
    """What is known about a model; None for what is not.

    Attributes:
        name: the model's name.
        training_data: origin of the training text.
        licence: licence of the training text.
        commit: the commit of the settings and code that made the model.
        repository: address of that commit's repository.
    """

    name: str
    training_data: str | None = None
    licence: str | None = None
    commit: str | None = None
    repository: str | None = None
