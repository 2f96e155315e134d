"""Helpers for tests of tracking: a project folder with an MLflow store, and stages to kill."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyllm.settings.load import load_params
from tinyllm.settings.runtime import Runtime
from tinyllm.tracking.folders import JOURNAL
from tinyllm.tracking.journal import Header, Journal

ROOT = Path(__file__).resolve().parents[2]
PYTHON = sys.executable
EXPERIMENT = "tests"
STEPS = 30

# A stage from the viewpoint of tracking. It waits for input after its first half.
STAGE = """
import sys
from tests.tracking.helpers import STEPS, header, record, settings
from tinyllm.tracking.journal import Journal

params = {f"p{i}": i for i in range(250)}  # more than MLflow accepts in a call
with Journal(header(name=sys.argv[1], params=params), settings()) as journal:
    record(journal, range(STEPS // 2))
    print(journal.folder, flush=True)
    word = sys.stdin.readline()
    if word == "fail\\n":
        raise ValueError("diverged")
    record(journal, range(STEPS // 2, STEPS))
"""


def settings(**changes: Any) -> Runtime:
    """The runtime section of params.yaml, with an experiment for tests."""
    section = load_params(ROOT / "params.yaml").runtime.model_dump()
    return Runtime.model_validate(section | {"experiment": EXPERIMENT} | changes)


def record(journal: Journal, steps: range) -> None:
    """Record some steps as a trainer does, including values that JSON and SQL can't represent."""
    for step in steps:
        odd = {0: float("inf"), 1: float("nan"), 2: float("-inf")}.get(step, float(step))
        journal.metrics(step, {"loss/batch": 1 / (step + 1), "val/perplexity": odd})


@dataclass(frozen=True)
class Project:
    """A project folder with MLflow's database."""

    root: Path

    @property
    def journals(self) -> list[Path]:
        """The journals that MLflow has not completely received."""
        return sorted(self.root.glob(".tinyllm/journals/*"))

    def start(self, how: str, **environment: str) -> subprocess.Popen[str]:
        """Start a stage, and wait until it has recorded its first half."""
        stage = subprocess.Popen(
            [PYTHON, "-c", STAGE, how],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.root,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        )
        assert stage.stdout is not None
        assert stage.stdout.readline().strip().startswith(str(self.root))
        return stage

    def sync(self, folder: str = ".", **environment: str) -> subprocess.CompletedProcess[str]:
        """Run `tinyllm sync`, as a user does after an outage."""
        return subprocess.run(
            [PYTHON, "-m", "tinyllm", "sync"],
            cwd=self.root / folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def wait_until_sent(self, seconds: float = 60) -> None:
        """Wait for followers that continue in the background."""
        wait_until(lambda: not self.journals, seconds, "MLflow has not received everything")

    def runs(self) -> dict[str, Any]:
        """The runs in the store, by name."""
        from mlflow import MlflowClient

        client = MlflowClient(f"sqlite:///{self.root / 'mlflow.db'}")
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        runs = client.search_runs(experiments)
        assert len({run.info.run_name for run in runs}) == len(runs)
        return {run.info.run_name: run for run in runs}

    def statuses(self) -> dict[str, str]:
        return {name: run.info.status for name, run in self.runs().items()}

    def points(self, run: Any) -> list[tuple[str, int]]:
        """(metric, step) of every point of a run in the database, sorted."""
        with closing(sqlite3.connect(self.root / "mlflow.db")) as database:
            rows = database.execute(
                "SELECT key, step FROM metrics WHERE run_uuid = ?", [run.info.run_id]
            )
            return sorted(rows.fetchall())


ALL_POINTS = sorted((name, s) for name in ("loss/batch", "val/perplexity") for s in range(STEPS))


def finish(stage: subprocess.Popen[str], word: str = "continue") -> tuple[float, str]:
    """Send a stage a word, and wait until it exits. Returns the seconds, and stderr."""
    started = time.monotonic()
    _, errors = stage.communicate(word + "\n", timeout=30)
    return time.monotonic() - started, errors


def reported(errors: str) -> bool:
    """Whether a stage has reported that MLflow has not received everything, or not yet."""
    return "Nothing is lost" in errors or "in the background" in errors


def events(folder: Path) -> list[dict[str, Any]]:
    """A journal's lines."""
    return [json.loads(line) for line in (folder / JOURNAL).read_text().splitlines()]


def wait_until(true: Callable[[], bool], seconds: float, message: str) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, message
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def mlflow_server(root: Path, port: int) -> Iterator[None]:
    """A real server over the project's database; leaving the context kills it, like a crash."""
    server = subprocess.Popen(
        [
            *(PYTHON, "-m", "mlflow", "server", "--host", "127.0.0.1"),
            *("--port", str(port), "--workers", "1"),
            *("--backend-store-uri", f"sqlite:///{root / 'mlflow.db'}"),
            *("--artifacts-destination", str(root / "mlartifacts")),
        ],
        cwd=root,
        env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )

    def answers() -> bool:
        assert server.poll() is None, "the server did not start"
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return True
        except OSError:
            return False

    try:
        wait_until(answers, 90, "the server does not answer")
        yield
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def header(stage: str = "train", **fields: Any) -> Header:
    return Header(stage=stage, **{"name": stage, **fields})
