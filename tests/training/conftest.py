"""Fixtures of the tests of whole trainings.

They use the arithmetic of the option --arithmetic, except tests with the fixture `arithmetic`.
"""

import functools
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers import Arithmetic
from tests.training.project import TRAIN, chosen_by, compute_by, final_state, prepare, run


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with everything that training needs. Don't change it."""
    project = tmp_path_factory.mktemp("prepared") / "project"
    prepare(project)
    return project


@pytest.fixture
def chosen(request: pytest.FixtureRequest) -> Arithmetic:
    """How this test's trainings compute."""
    if "arithmetic" in request.fixturenames:
        arithmetic: Arithmetic = request.getfixturevalue("arithmetic")
        return arithmetic
    return chosen_by(request.config)


@pytest.fixture
def project(prepared: Path, tmp_path: Path, chosen: Arithmetic) -> Path:
    """A copy of the prepared project."""
    project = Path(shutil.copytree(prepared, tmp_path / "project"))
    compute_by(project, chosen)
    return project


@pytest.fixture(scope="session")
def trained(
    prepared: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Arithmetic], dict[str, bytes]]:
    """The result of an uninterrupted training, by arithmetic."""

    @functools.cache
    def train(arithmetic: Arithmetic) -> dict[str, bytes]:
        project = Path(shutil.copytree(prepared, tmp_path_factory.mktemp("untouched") / "project"))
        compute_by(project, arithmetic)
        run(project, "train", *TRAIN)
        return final_state(project)

    return train


@pytest.fixture
def untouched(
    trained: Callable[[Arithmetic], dict[str, bytes]], chosen: Arithmetic
) -> dict[str, bytes]:
    """The result of an uninterrupted training."""
    return trained(chosen)
