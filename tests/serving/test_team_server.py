"""`tinyllm server`: a team's server with accounts, which refuses forged hosts and foreign pages."""

import base64
import json
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks.screenshots import wait_for_server
from tests.helpers import ROOT
from tests.serving.evaluations import Evaluations, better_by
from tests.tracking.helpers import PYTHON, Project, free_port
from tinyllm.experiments.runs import mlflow_runs
from tinyllm.tracking.outbox import pending, sync

pytestmark = pytest.mark.ecosystem

PASSWORDS = {"alice": "alice-has-a-password", "bob": "bob-has-another-one"}
SEARCH = "ajax-api/2.0/mlflow/experiments/search"


@dataclass(frozen=True)
class Server:
    folder: Path
    port: int
    process: "subprocess.Popen[bytes]"

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def status(self, user: str = "", **headers: str) -> int:
        """The status of a browser's request for experiments."""
        if user:
            login = f"{user}:{PASSWORDS.get(user) or self.password}".encode()
            headers["Authorization"] = f"Basic {base64.b64encode(login).decode()}"
        request = urllib.request.Request(
            f"{self.address}/{SEARCH}",
            data=json.dumps({"max_results": 9}).encode(),
            headers={"Content-Type": "application/json", **headers},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    @property
    def password(self) -> str:
        return (self.folder / "admin_password").read_text()


@contextmanager
def postgres() -> Iterator[str]:
    """A PostgreSQL server's address, on loopback only; empty if there are no binaries."""
    if shutil.which("initdb") is None or shutil.which("postgres") is None:
        yield ""
        return
    port = free_port()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "password").write_text("not@so$ecret")
        run: dict[str, Any] = {"cwd": folder, "stdout": subprocess.DEVNULL}
        if os.geteuid() == 0:  # which PostgreSQL refuses
            account = pwd.getpwnam("nobody")
            run |= {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
            for path in (folder, folder / "password"):
                os.chown(path, account.pw_uid, account.pw_gid)
        options = ["--username=mlflow", "--auth=scram-sha-256", "--pwfile=password", "--no-sync"]
        subprocess.run(["initdb", "-D", "db", "-E", "UTF8", *options], check=True, **run)
        listen = ["-h", "127.0.0.1", "-p", str(port), "-k", str(folder)]
        server = subprocess.Popen(
            ["postgres", "-D", "db", *listen],
            stderr=subprocess.DEVNULL,
            **run,
        )
        try:
            yield f"postgresql://mlflow:not%40so$ecret@127.0.0.1:{port}/postgres"
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(60)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("team")
    folder, port = root / "100% team", free_port()
    kept = {name: v for name, v in os.environ.items() if not name.startswith(("MLFLOW_", "DVC_"))}
    with postgres() as database:
        process = subprocess.Popen(
            [
                *(PYTHON, "-m", "tinyllm", "server", "--folder", str(folder)),
                *("--port", str(port), "--allowed-hosts", "mlflow.example.com"),
                *("--workers", "1"),
            ],
            cwd=root,
            env={**kept, "PYTHONPATH": str(ROOT), "MLFLOW_BACKEND_STORE_URI": database},
            start_new_session=True,
        )
        try:
            wait_for_server(f"http://127.0.0.1:{port}/", process)
            made = Server(folder, port, process)
            add_users(made)
            yield made
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def add_users(server: Server) -> None:
    """Create the accounts as the administrator does."""
    code = """
import sys
from mlflow.server import get_app_client
client = get_app_client("basic-auth", tracking_uri=sys.argv[1])
for name, password in zip(sys.argv[2::2], sys.argv[3::2]):
    client.create_user(name, password)
"""
    accounts = [word for pair in PASSWORDS.items() for word in pair]
    subprocess.run(
        [PYTHON, "-c", code, server.address, *accounts],
        env={
            **os.environ,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_TRACKING_USERNAME": "admin",
            "MLFLOW_TRACKING_PASSWORD": server.password,
        },
        check=True,
    )


def log_in(server: Server, user: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", user)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORDS[user])
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")


def test_only_accounts_hosts_and_origins_that_are_allowed_pass(server: Server) -> None:
    host, origin = f"127.0.0.1:{server.port}", f"http://127.0.0.1:{server.port}"
    assert server.status() == 401
    assert server.status("alice", Host=host, Origin=origin) == 200
    proxied = "mlflow.example.com"
    assert server.status("alice", Host=proxied, Origin=f"https://{proxied}") == 200
    assert server.status("alice", Host="evil.example.com") == 403
    assert server.status("alice", Host="192.168.1.1") == 403
    assert server.status("alice", Host=host, Origin="https://evil.example.com") == 403
    assert server.status("alice", Host=host, Origin="null") == 403


def test_it_listens_on_loopback_and_hides_its_secrets(server: Server) -> None:
    tree = [psutil.Process(server.process.pid)]
    tree += tree[0].children(recursive=True)
    connections = [each for process in tree for each in process.net_connections()]
    assert {each.laddr.ip for each in connections if each.status == "LISTEN"} == {"127.0.0.1"}
    assert {each.raddr.ip for each in connections if each.raddr} <= {"127.0.0.1"}
    assert "ecret" not in " ".join(word for process in tree for word in process.cmdline())
    assert stat.S_IMODE(server.folder.stat().st_mode) == 0o700
    for name in ("admin_password", "secret_key", "accounts.ini"):
        assert stat.S_IMODE((server.folder / name).stat().st_mode) == 0o600


def test_two_members_send_runs_and_models_to_one_experiment(
    server: Server,
    project: Project,
    evaluations: Evaluations,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from mlflow import MlflowClient

    log_in(server, "alice", monkeypatch)
    evaluations.record(1, experiment="team", register_as="shared")
    assert sync(0, everything=True) == 0 and not pending()
    log_in(server, "bob", monkeypatch)
    evaluations.record(2, better_by(0.5), experiment="team", register_as="shared")
    assert sync(0, everything=True) == 0 and not pending()

    runs = {run.title: run for run in mlflow_runs("team")}
    assert runs.keys() == {"evaluate 1", "evaluate 2"}
    first, second = runs["evaluate 1"].test, runs["evaluate 2"].test
    assert first is not None and second is not None and second < first
    client = MlflowClient()
    assert client.get_model_version_by_alias("shared", "champion").version == "2"
    weights = [path for path in server.folder.rglob("model.safetensors") if path.is_file()]
    assert weights, "the artifacts are in the server's folder"
    assert not (project.root / "mlartifacts").exists()


def test_a_wrong_password_keeps_the_run(
    server: Server, evaluations: Evaluations, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_in(server, "alice", monkeypatch)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong-password-here")
    evaluations.record(3, experiment="team")
    assert sync(0, everything=True) == 1 and len(pending()) == 1
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORDS["alice"])
    assert sync(0, everything=True) == 0 and not pending()
