"""A project folder with its own empty MLflow database."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.tracking.helpers import Project


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_database: Path) -> Project:
    """The current folder, without the developer's settings of Git, DVC and MLflow."""
    for name in [
        name for name in os.environ if name.startswith(("GIT_", "DVC_", "MLFLOW_", "TINYLLM_"))
    ]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    shutil.copyfile(empty_database, tmp_path / "mlflow.db")
    (tmp_path / ".dvc").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    return Project(tmp_path)


@pytest.fixture
def no_follower(monkeypatch: pytest.MonkeyPatch) -> None:
    """Followers can't start: a test sends its journals itself."""
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
