"""In any state of MLflow, a stage continues, ends soon, and loses nothing."""

import multiprocessing
import os
import resource
import signal
import socket
import sqlite3
import subprocess
import time
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from tests.tracking.helpers import (
    ALL_POINTS,
    PYTHON,
    ROOT,
    Project,
    events,
    finish,
    free_port,
    header,
    mlflow_server,
    record,
    reported,
    settings,
    wait_until,
)
from tinyllm.tracking.journal import Journal

LONGEST_END = 6.5  # seconds: the five that a stage waits, and more for a busy machine


@pytest.mark.parametrize("store", ["a dead port", "a read-only folder"])
def test_no_store_at_all(project: Project, store: str) -> None:
    port, nowhere = f"http://127.0.0.1:{free_port()}", "sqlite:////proc/nowhere/mlflow.db"
    stage = project.start(store, MLFLOW_TRACKING_URI=port if "port" in store else nowhere)
    seconds, errors = finish(stage)
    assert stage.returncode == 0
    assert seconds < LONGEST_END
    assert reported(errors)

    (journal,) = project.journals  # the local record is complete
    kinds = [event["kind"] for event in events(journal)]
    assert kinds == ["run"] + ["metrics"] * 30 + ["end"]

    done = project.sync()
    assert done.returncode == 0, done.stderr
    assert project.statuses() == {store: "FINISHED"}
    assert project.points(project.runs()[store]) == ALL_POINTS
    assert project.sync().stdout == "MLflow has everything.\n"


@pytest.mark.slow
def test_a_server_that_never_answers(project: Project) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        stage = project.start("silence", MLFLOW_TRACKING_URI=uri, MLFLOW_HTTP_REQUEST_TIMEOUT="8")
        seconds, errors = finish(stage)
        assert stage.returncode == 0
        assert seconds < LONGEST_END
        assert reported(errors)
        (journal,) = project.journals
        log = journal / "follower.log"
        wait_until(lambda: "not sent" in log.read_text(), 40, "the follower hangs")
    assert [event["kind"] for event in events(journal)][-1] == "end"


def test_a_locked_database(project: Project) -> None:
    ready, release = multiprocessing.Event(), multiprocessing.Event()
    other = multiprocessing.Process(target=_lock, args=(project.root, ready, release))
    other.start()
    assert ready.wait(10)
    seconds, errors = finish(project.start("locked"))
    assert seconds < LONGEST_END
    assert "in the background" in errors
    assert len(project.journals) == 1
    release.set()
    other.join()
    project.wait_until_sent()  # by the follower, which continues alone
    assert project.statuses() == {"locked": "FINISHED"}
    assert project.points(project.runs()["locked"]) == ALL_POINTS


def _lock(root: Path, ready: Event, release: Event) -> None:
    database = sqlite3.connect(root / "mlflow.db")
    database.execute("BEGIN EXCLUSIVE")
    ready.set()
    release.wait(30)


@pytest.mark.slow
def test_a_full_disk_of_the_store(project: Project) -> None:
    """No file may grow beyond the database's current size; the journal is far smaller."""
    size = (project.root / "mlflow.db").stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        stage = project.start("full store")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    seconds, errors = finish(stage)
    assert stage.returncode == 0
    assert seconds < LONGEST_END
    assert reported(errors)
    (journal,) = project.journals
    wait_until(lambda: "not sent" in (journal / "follower.log").read_text(), 40, "it was sent")
    done = project.sync()  # with free space again
    assert done.returncode == 0, done.stderr
    assert project.statuses() == {"full store": "FINISHED"}
    assert project.points(project.runs()["full store"]) == ALL_POINTS


@pytest.mark.slow
def test_a_server_killed_and_restarted(project: Project) -> None:
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    with mlflow_server(project.root, port):
        stage = project.start("survivor", MLFLOW_TRACKING_URI=uri)
        wait_until(lambda: "survivor" in project.runs(), 40, "the run is not there")
        wait_until(
            lambda: len(project.points(project.runs()["survivor"])) == 30, 40, "half is not there"
        )
        assert project.statuses() == {"survivor": "RUNNING"}
    seconds, errors = finish(stage)  # the second half, without the server
    assert seconds < LONGEST_END
    assert reported(errors)
    with mlflow_server(project.root, port):
        done = project.sync(MLFLOW_TRACKING_URI=uri)
        assert done.returncode == 0, done.stderr
    (run,) = project.runs().values()
    assert run.info.status == "FINISHED"
    assert project.points(run) == ALL_POINTS
    assert len(run.data.params) == 250


def test_a_broken_mlflow(project: Project) -> None:
    broken = project.root / "broken" / "mlflow"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('no such thing')")
    stage = project.start("broken", PYTHONPATH=f"{ROOT}{os.pathsep}{broken.parent}")
    (journal,) = project.journals
    seconds, errors = finish(stage)
    assert stage.returncode == 0
    assert seconds < LONGEST_END
    assert reported(errors)
    log = journal / "follower.log"
    wait_until(lambda: "not sent: no such thing" in log.read_text(), 30, "the follower hangs")
    assert project.sync().returncode == 0
    assert project.statuses() == {"broken": "FINISHED"}


@pytest.mark.usefixtures("no_follower")
def test_a_follower_that_cannot_start(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    with Journal(header(), settings()) as journal:
        record(journal, range(30))
    assert "Nothing is lost" in capsys.readouterr().err
    assert len(project.journals) == 1


def test_a_read_only_folder(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    (project.root / ".tinyllm").write_text("a file where the folder should be")
    started = time.monotonic()
    with Journal(header(), settings()) as journal:
        record(journal, range(30))
        journal.file(project.root / "mlflow.db", "file")
        journal.content("text", b"text")
        journal.tags({"a": "b"})
    assert time.monotonic() - started < 1
    errors = capsys.readouterr().err
    assert errors.count("MLflow will not receive") == 1


def test_a_full_disk(project: Project) -> None:
    """The kernel limits the size of the process's files, like a full disk."""
    stage = subprocess.run(
        [PYTHON, "-c", FULL_DISK],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert stage.returncode == 0, stage.stderr
    assert "trained to the end" in stage.stdout
    assert stage.stderr.count("MLflow will not receive all of this run") == 1
    project.wait_until_sent()
    assert project.statuses() == {"full": "KILLED"}  # according to its journal
    assert 0 < len(project.points(project.runs()["full"])) < len(ALL_POINTS)


FULL_DISK = f"""
import resource, signal
from tests.tracking.helpers import header, record, settings
from tinyllm.tracking.journal import Journal

signal.signal({int(signal.SIGXFSZ)}, signal.SIG_IGN)
with Journal(header(name="full"), settings()) as journal:
    resource.setrlimit({resource.RLIMIT_FSIZE}, (1500, 1500))
    record(journal, range(30))
    print("trained to the end")
"""
