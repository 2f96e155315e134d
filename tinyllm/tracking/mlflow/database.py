"""Makes MLflow's SQLite database whole before anybody sees it.

Two processes that find a database without tables both make them, and leave it broken for good
("table _alembic_tmp_experiments already exists", mlflow 3.17.2): two stages of a first run, or a
stage and `mlflow ui`.
"""

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from tinyllm.common.files import project_root

ARTIFACTS = "mlartifacts"  # in the project; with a database MLflow would take the current folder
MAKING = 60.0  # seconds after its last change for which a database may be one in the making
LOCKED = 20.0  # seconds to wait for another process that writes, as MLflow does


def prepare(uri: str) -> None:
    """Make the database that a tracking URI names, if it is SQLite and there is none.

    Raises:
        RuntimeError: another process is making it.
    """
    path = path_of(uri)
    if path is None:
        return
    if not path.exists():
        _make(path)
    if not _is_whole(path) and time.time() - path.stat().st_mtime < MAKING:
        raise RuntimeError(f"{path} is being made by another process")


def path_of(uri: str) -> Path | None:
    """The file of the SQLite database that a tracking URI names; None: it names another store."""
    from sqlalchemy import make_url

    if not uri.startswith("sqlite:") or not (name := make_url(uri).database):
        return None
    return Path(name)


def _make(path: Path) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        # As an address, which escapes quotes: MLflow writes it into SQL as it is (3.17.2).
        artifacts = (project_root() / ARTIFACTS).as_uri()
        SqlAlchemyStore(f"sqlite:///{new}", artifacts)
        try:
            os.link(new, path)
        except OSError:
            if not path.exists():  # no links here; else somebody was first
                new.rename(path)
    finally:
        new.unlink(missing_ok=True)


def _is_whole(path: Path) -> bool:
    """Whether it has the experiment that MLflow creates last."""
    try:
        with closing(sqlite3.connect(path, timeout=LOCKED)) as database:
            return database.execute("SELECT 1 FROM experiments").fetchone() is not None
    except sqlite3.OperationalError:
        return False
