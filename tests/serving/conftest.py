"""A project folder with an empty MLflow store, and evaluations in it."""

from pathlib import Path

import pytest

from tests.serving.evaluations import Evaluations
from tests.tracking.conftest import project, proxy, server  # noqa: F401 (fixtures)
from tests.tracking.helpers import Project
from tinyllm.data.tokenizer import Tokenizer


@pytest.fixture
def evaluations(project: Project, tokenizer: Tokenizer) -> Evaluations:  # noqa: F811
    return Evaluations(project.root, tokenizer)


@pytest.fixture
def artifacts(project: Project) -> Path:  # noqa: F811
    """Where MLflow stores the files of runs and models."""
    return project.root / "mlartifacts"
