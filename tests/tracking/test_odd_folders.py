"""A project in a folder of any name has its whole MLflow store in that folder."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.tracking.helpers import Project, header, record, settings
from tinyllm.tracking.journal import Journal

pytestmark = pytest.mark.usefixtures("no_follower")


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("a?b#c%2Fd 'e\" ü日;x:{y}\\n$HOME.", False),  # MLflow's database is created there
        ("50%25%2F..%2Fother?mode=ro&cache=x", True),
    ],
)
def test_the_store_is_in_the_projects_folder(
    project: Project, monkeypatch: pytest.MonkeyPatch, name: str, made: bool
) -> None:
    root = project.root / "parent" / name
    (root / ".dvc").mkdir(parents=True)
    if made:
        shutil.copyfile(project.root / "mlflow.db", root / "mlflow.db")
    monkeypatch.chdir(root)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with Journal(header(), settings()) as journal:
        record(journal, range(3))
        journal.content("notes.txt", b"text")
    done = Project(root).sync()
    assert done.returncode == 0, done.stdout + done.stderr
    with closing(sqlite3.connect(root / "mlflow.db")) as database:
        ((run, status),) = database.execute("SELECT run_uuid, status FROM runs").fetchall()
    assert status == "FINISHED"
    assert (root / "mlartifacts" / run / "artifacts" / "notes.txt").read_bytes() == b"text"
    assert {path.name for path in root.iterdir()} == {
        ".dvc",
        ".tinyllm",
        "mlflow.db",
        "mlartifacts",
    }
    assert [path.name for path in root.parent.iterdir()] == [Path(name).name]
