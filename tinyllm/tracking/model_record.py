"""The line of a journal that describes the run's model, from which the sender logs it in MLflow."""

from dataclasses import dataclass
from typing import Any

FOLDER = "served"  # of the model's files, among the journal's files
CODE, MODEL = "code", "model"  # its parts: modules, and the model folder
LOSSES = "test_losses/losses.npy"  # in the run: the loss of each test token in nats, (N,)
LENGTHS = "test_losses/document_lengths.npy"  # tokens of each test document, (D,)


@dataclass(frozen=True)
class Candidate:
    """A model to register, and what a comparison with the champion needs.

    Attributes:
        name: of the registered model.
        bits_per_byte: test score.
        test_data: SHA-256 of the test tokens.
        scored_with: settings that change the score; those of two models must be the same.
    """

    name: str
    bits_per_byte: float
    test_data: str
    test_tokens: int
    test_bytes: int
    scored_with: str


@dataclass(frozen=True)
class ModelRecord:
    """A model that MLflow can serve.

    Attributes:
        name: in its run.
        script: the file in `CODE` that MLflow runs to load the model.
        signature: inputs, outputs and params, as in MLflow's file MLmodel.
        example: an example's inputs and params.
        requirements: of pip.
        note: Markdown, shown on the model's page; {uri} is the model's address.
        dataset: the data of the metrics that start with `test/`.
        candidate: None if the model is not to be registered.
    """

    name: str
    script: str
    signature: dict[str, list[dict[str, Any]]]
    example: list[Any]
    requirements: list[str]
    note: str
    dataset: dict[str, Any]
    candidate: Candidate | None
