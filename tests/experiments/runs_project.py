"""A project with a finished run in an MLflow store of its own, for tests of what is recorded."""

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.pipeline import Project
from tinyllm.experiments.recorded import Recorded, by_id


def with_runs(ran: Project, root: Path) -> Project:
    """A copy of a project with its runs; MLflow holds the absolute paths of their files."""
    shutil.copytree(
        ran.root, root, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "trainings")
    )
    with closing(sqlite3.connect(root / "mlflow.db")) as database, database:
        for table, column in (
            ("experiments", "artifact_location"),
            ("runs", "artifact_uri"),
            ("logged_models", "artifact_location"),
        ):
            database.execute(
                f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (str(ran.root), str(root))
            )
    return Project(root)


@pytest.fixture
def tracked(ran: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The current folder: a project with a run, that a test may change."""
    project = with_runs(ran, tmp_path / "project")
    world = project.world()
    for name in os.environ.keys() - world.keys():
        monkeypatch.delenv(name)
    for name, value in world.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project.root / 'mlflow.db'}")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.chdir(project.root)
    return project


def only_run(project: Project) -> Recorded:
    """The only run in the project's store."""
    (run,) = project.runs()
    return by_id(run.info.run_id)
