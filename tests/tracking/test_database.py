"""MLflow's database is created once and completely, by any number of processes."""

import multiprocessing
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from tinyllm.tracking.mlflow.database import prepare


def _prepare(database: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            prepare(f"sqlite:///{database}")
            break
        except RuntimeError:  # the other one is creating it
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_two_first_runs_create_one_database(tmp_path: Path) -> None:
    database = tmp_path / "new folder" / "mlflow.db"
    makers = [multiprocessing.Process(target=_prepare, args=(database,)) for _ in range(2)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    assert [maker.exitcode for maker in makers] == [0, 0]
    with closing(sqlite3.connect(database)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master").fetchall()
        assert connection.execute("SELECT name FROM experiments").fetchall() == [("Default",)]
    assert ("metrics",) in tables
    assert not [name for (name,) in tables if name.startswith("_alembic_tmp")]
    assert list(database.parent.iterdir()) == [database]


def test_a_database_that_mlflow_is_creating_is_not_changed(tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE experiments (experiment_id INTEGER)")
        with pytest.raises(RuntimeError, match="another process is creating"):
            prepare(f"sqlite:///{database}")
        assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (1,)


@pytest.mark.parametrize("uri", ["http://127.0.0.1:1", "sqlite://", "databricks"])
def test_other_stores_are_ignored(uri: str) -> None:
    prepare(uri)
