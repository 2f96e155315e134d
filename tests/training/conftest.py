"""What the tests of whole trainings share."""

import shutil
from pathlib import Path

import pytest

from tests.training.project import TRAIN, final_state, prepare, run


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with everything that training needs; not to be changed."""
    project = tmp_path_factory.mktemp("prepared") / "project"
    prepare(project)
    return project


@pytest.fixture
def project(prepared: Path, tmp_path: Path) -> Path:
    """A copy of the prepared project."""
    return Path(shutil.copytree(prepared, tmp_path / "project"))


@pytest.fixture(scope="session")
def untouched(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a training ends in that nothing has interrupted."""
    project = Path(shutil.copytree(prepared, tmp_path_factory.mktemp("untouched") / "project"))
    run(project, "train", *TRAIN)
    return final_state(project)
