"""`make ui` prints the address of the runs, and MLflow serves this project's runs there."""

import json
import os
import shutil
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.helpers import ROOT
from tests.tracking.helpers import PYTHON, free_port, wait_until


@pytest.fixture
def project(tmp_path: Path, empty_database: Path) -> Path:
    """A project in a folder with an odd name, whose experiment is not MLflow's first."""
    from mlflow import MlflowClient

    root = tmp_path / "100% odd?#%2F"
    (root / ".dvc").mkdir(parents=True)
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    (root / "params.yaml").write_text(text.replace("experiment: tinyllm", "experiment: 'oth\"er'"))
    shutil.copyfile(empty_database, tmp_path / "mlflow.db")
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    for name in ("tinyllm", 'oth"er'):
        client.create_experiment(name)
    (tmp_path / "mlflow.db").rename(root / "mlflow.db")
    return root


def start(project: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    kept = {name: v for name, v in os.environ.items() if not name.startswith(("MLFLOW_", "DVC_"))}
    return subprocess.Popen(
        [PYTHON, "-m", "tinyllm", "ui", *arguments],
        cwd=project,
        env={**kept, "PYTHONPATH": str(ROOT), "MLFLOW_DISABLE_TELEMETRY": "true", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


def status(port: int, host: str) -> int:
    """The status of a request for experiments from a page opened under a host name."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/ajax-api/2.0/mlflow/experiments/search",
        data=json.dumps({"max_results": 9}).encode(),
        headers={
            "Content-Type": "application/json",
            "Host": f"{host}:{port}",
            "Origin": f"http://{host}:{port}",
        },
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_it_prints_the_experiments_link_and_accepts_the_allowed_hosts(project: Path) -> None:
    port = free_port()
    server = start(
        project, "--host", "0.0.0.0", "--port", str(port), "--allowed-hosts", "gpu.example"
    )
    try:
        assert server.stdout is not None
        first, second, third = (server.stdout.readline() for _ in range(3))
        assert first.startswith("Starting MLflow")
        own = socket.gethostname()
        assert (
            second
            == f"The runs: http://{own}:{port}/#/experiments/2/runs?workflowType=machine_learning\n"
        )
        assert "ALLOWED_HOSTS" in third

        def answers() -> bool:
            assert server.poll() is None
            try:
                return status(port, "127.0.0.1") == 200
            except OSError:
                return False

        wait_until(answers, 90, "MLflow does not start")
        assert [status(port, host) for host in ("gpu.example", own, "localhost")] == [200] * 3
        assert status(port, "evil.example") == 403
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.communicate()
    assert sorted(path.name for path in project.parent.iterdir()) == [project.name]


def test_runs_on_a_server_are_linked_without_the_password(project: Path) -> None:
    port = free_port()  # where nothing answers
    (project / "params.yaml").write_text("wrong")
    server = start(
        project,
        MLFLOW_TRACKING_URI=f"http://me:secret@127.0.0.1:{port}/base/",
        MLFLOW_HTTP_REQUEST_MAX_RETRIES="0",
    )
    printed, _ = server.communicate(timeout=60)
    assert server.returncode == 0
    assert printed.startswith(f"The runs: http://me:***@127.0.0.1:{port}/base/#/experiments?")
