"""Creates MLflow's SQLite database completely before it is published.

If two processes find a database without tables, both create them and leave it broken for good
("table _alembic_tmp_experiments already exists", mlflow 3.17.2): two stages of a first run, or a
stage and `mlflow ui`.
"""

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from tinyllm.common.files import project_root

ARTIFACTS = "mlartifacts"  # in the project; MLflow's default for a database is the current folder
MAKING = 60.0  # seconds after its last change in which a database may be incomplete
LOCKED = 20.0  # seconds to wait for another writer, as MLflow does


def prepare(uri: str) -> None:
    """Create the database that a tracking URI names, if it is SQLite and missing.

    Raises:
        RuntimeError: another process is creating it.
    """
    path = path_of(uri)
    if path is None:
        return
    if not path.exists():
        _make(path)
    if not _is_whole(path) and time.time() - path.stat().st_mtime < MAKING:
        raise RuntimeError(f"another process is creating {path}")


def path_of(uri: str) -> Path | None:
    """The file of the SQLite database that a tracking URI names; None for another kind of store."""
    from sqlalchemy import make_url

    if not uri.startswith("sqlite:") or not (name := make_url(uri).database):
        return None
    return Path(name)


def _make(path: Path) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        # As a URI, which escapes quotes: MLflow inserts it into SQL unescaped (3.17.2).
        artifacts = (project_root() / ARTIFACTS).as_uri()
        SqlAlchemyStore(f"sqlite:///{new}", artifacts)
        try:
            os.link(new, path)
        except OSError:
            if not path.exists():  # no hard links here; otherwise another process was first
                new.rename(path)
    finally:
        new.unlink(missing_ok=True)


def _is_whole(path: Path) -> bool:
    """Whether a database has the experiment that MLflow creates last."""
    try:
        with closing(sqlite3.connect(path, timeout=LOCKED)) as database:
            return database.execute("SELECT 1 FROM experiments").fetchone() is not None
    except sqlite3.OperationalError:
        return False
