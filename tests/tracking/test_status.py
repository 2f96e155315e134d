"""MLflow shows the true status of a run."""

import os
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.tracking.helpers import (
    ALL_POINTS,
    PYTHON,
    ROOT,
    Project,
    finish,
    header,
    record,
    settings,
    wait_until,
)
from tinyllm.tracking.follower import wait_for
from tinyllm.tracking.journal import Journal
from tinyllm.tracking.mlflow.notes import VANISHED


@pytest.mark.slow
def test_the_runs_status_is_the_stages(project: Project) -> None:
    stages = {how: project.start(how) for how in ("fine", "failed", "interrupted", "killed")}
    stages["killed"].kill()
    stages["interrupted"].send_signal(signal.SIGINT)
    finish(stages["fine"])
    finish(stages["failed"], "fail")
    for stage in stages.values():
        stage.wait()
    project.wait_until_sent()
    assert project.statuses() == {
        "fine": "FINISHED",
        "failed": "FAILED",
        "interrupted": "KILLED",
        "killed": "KILLED",
    }
    runs = project.runs()
    notes = {name: run.data.tags.get("mlflow.note.content") for name, run in runs.items()}
    assert notes == {
        "fine": None,
        "failed": "**Failed:** diverged",
        "interrupted": "**Stopped:** interrupted",
        "killed": f"**Stopped:** {VANISHED}",
    }
    assert project.points(runs["fine"]) == ALL_POINTS
    half = [(name, step) for name, step in ALL_POINTS if step < 15]
    assert project.points(runs["killed"]) == half  # everything recorded before


@pytest.mark.slow
def test_a_stage_whose_follower_died_is_not_marked_killed(project: Project) -> None:
    stage = project.start("fine")
    (follower,) = psutil.Process(stage.pid).children()
    wait_until(lambda: follower.nice() == 10, 20, "it does not yield to the trainer")
    follower.kill()

    done = project.sync()
    assert done.returncode == 0, done.stderr
    assert "its stage is running" in done.stdout
    assert project.statuses() == {"fine": "RUNNING"}
    assert len(project.points(project.runs()["fine"])) == 30  # the points so far
    assert len(project.journals) == 1

    seconds, errors = finish(stage)
    assert seconds < 6
    assert "Nothing is lost" in errors
    assert project.sync().returncode == 0
    assert project.statuses() == {"fine": "FINISHED"}
    assert project.points(project.runs()["fine"]) == ALL_POINTS


@pytest.mark.usefixtures("no_follower")
def test_a_follower_that_reads_the_end_before_the_signal(project: Project) -> None:
    with Journal(header(), settings()) as journal:
        record(journal, range(3))
    weight = Path("/proc/self/autogroup")  # the session's weight on Linux
    before = weight.exists() and weight.read_text()
    follower = subprocess.Popen(
        [PYTHON, "-m", "tinyllm.tracking.sender", str(journal.folder)],
        stdin=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
    )
    assert follower.wait(40) == 0
    assert (weight.exists() and weight.read_text()) == before  # another process's session
    assert project.statuses() == {"train": "FINISHED"}


def test_workers_of_an_exited_stage_do_not_hide_its_end(project: Project) -> None:
    """A forked data worker keeps its parent's files open, including the lock and the pipe."""
    code = """
import os, time
from tests.tracking.helpers import header, record, settings
from tinyllm.tracking.mlflow.notes import VANISHED
from tinyllm.tracking.follower import wait_for
from tinyllm.tracking.journal import Journal

with Journal(header(name="parent"), settings()) as journal:
    record(journal, range(30))
    if os.fork() == 0:
        time.sleep(30)
        os._exit(0)
"""
    stage = subprocess.run(
        [PYTHON, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        timeout=20,
    )
    assert stage.returncode == 0
    project.wait_until_sent(20)
    assert project.statuses() == {"parent": "FINISHED"}


def test_the_follower_learns_of_the_end_although_a_worker_holds_the_pipe(project: Project) -> None:
    follower = subprocess.Popen(
        [PYTHON, "-S", "-c", "import os; os.read(0, 1)"], stdin=subprocess.PIPE
    )
    assert follower.stdin is not None
    worker = os.dup(follower.stdin.fileno())
    wait_for(follower, project.root / "log")
    assert follower.returncode == 0
    os.close(worker)
