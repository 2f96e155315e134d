"""A project folder with its own empty MLflow database, and a server."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tracking.helpers import Project, free_port, mlflow_server
from tests.tracking.proxy import Proxy, proxy_before


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


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[int]:
    """A server's port."""
    root = tmp_path_factory.mktemp("server")
    shutil.copyfile(empty_database, root / "mlflow.db")
    port = free_port()
    with mlflow_server(root, port):
        yield port


@pytest.fixture
def proxy(server: int, project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy between this project and the server."""
    assert project.journals == []
    with proxy_before(server) as proxy:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.url)
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        yield proxy
