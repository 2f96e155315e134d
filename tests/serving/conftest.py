"""A project folder with an empty MLflow store, and evaluations in it."""

from pathlib import Path

import pytest

from tests.serving.evaluations import Evaluations
from tests.tracking.helpers import Project
from tinyllm.data.tokenizer import Tokenizer


@pytest.fixture
def evaluations(project: Project, tokenizer: Tokenizer) -> Evaluations:
    return Evaluations(project.root, tokenizer)


@pytest.fixture
def artifacts(project: Project) -> Path:
    """Where MLflow stores the files of runs and models."""
    return project.root / "mlartifacts"
